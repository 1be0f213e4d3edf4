"""What is guessed of a table's columns where the guess may be wrong: it is said, and can be overruled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.desks import desk_at_rest
from workbench import InputError
from workbench.app import examples, intake
from workbench.demonstrations.columns import Columns
from workbench.demonstrations.reading import parse

WORDS = ["one", "two", "three", "four", "five", "six"]
DOLLY = "instruction,context,response\nWhen did it open?,The museum opened in 1910.,It opened in 1910.\nWhy?,,So."


@pytest.mark.parametrize(("said", "scored"), [(1, True), (4, True), (5, False), (6, False)])
def test_sentences_in_the_one_column_of_answers_are_not_looked_for(said: int, scored: bool) -> None:
    text = " ".join(WORDS[:said])
    found = parse(f"question,answer\nWhich?,{text}.\nWhat?,{text}!")
    assert [row.demonstration for row in found.rows] == [f"{text}.", f"{text}!"]
    assert [row.answer for row in found.rows] == ([f"{text}.", f"{text}!"] if scored else [None, None])
    assert any("add a column final_answer" in note for note in found.notes) != scored


@pytest.mark.parametrize(
    "text",
    [
        "She buys two, then two more. #### 4",
        '{"city": "Paris", "river": "the brown Seine"}',
        "B) the one that makes energy",
    ],
)
def test_what_a_scorer_reads_a_part_of_is_scored(text: str) -> None:
    quoted = text.replace('"', '""')
    (found,) = parse(f'question,answer\nWhich?,"{quoted}"').rows
    assert found.answer == found.demonstration == text


@pytest.mark.parametrize("label", ["0", "math"])
def test_what_may_be_a_kind_is_no_right_answer(label: str) -> None:
    found = parse(f"question,answer,label\nWhich?,It is the one with the lamp.,{label}")
    assert found.rows[0].answer is None and "Not used" in " ".join(found.notes)
    assert not any("There is no answer column" in note for note in found.notes), "one is told why it is not taken"


def test_without_spaces_the_length_tells_a_sentence() -> None:
    assert parse(f"question,answer\nWhich?,{'猫' * 30}").rows[0].answer == "猫" * 30
    assert parse(f"question,answer\nWhich?,{'猫' * 60}").rows[0].answer is None


def test_a_short_answer_beside_it_is_looked_for() -> None:
    found = parse("question,answer,final_answer\nWhich?,It is the one with the lamp.,lamp")
    assert found.rows[0].answer == "lamp" and found.rows[0].demonstration == "It is the one with the lamp."
    named = parse("question,answer\nWhich?,It is the one.", Columns(demonstration="answer", answer="answer"))
    assert named.rows[0].answer == "It is the one.", "whoever says so is obeyed"


def test_it_is_said_that_the_teacher_reads_the_context_instead() -> None:
    found = parse(DOLLY)
    assert found.rows[0].context == "The museum opened in 1910." and found.rows[1].context is None
    assert any("'context' holds something, the teacher reads that in place of" in note for note in found.notes)
    without = parse(DOLLY, Columns(context=""))
    assert [row.context for row in without.rows] == [None, None]
    assert without.rows[0].demonstration == "It opened in 1910."
    assert not any("in place of" in note for note in without.notes)


def test_the_columns_that_there_must_be_cannot_be_none() -> None:
    with pytest.raises(InputError, match="no column for the prompt"):
        parse(DOLLY, Columns(prompt=""))
    with pytest.raises(InputError, match="no column for the demonstration"):
        parse("question,answer\nWhich?,This.", Columns(demonstration=""))


def test_the_page_offers_none_and_keeps_it(tmp_path: Path) -> None:
    with desk_at_rest(tmp_path) as desk:
        intake.use_text(desk, DOLLY)
        prompt, *others = examples.columns(desk)[2:]
        assert ("(none)", "") not in prompt["choices"]
        assert all(("(none)", "") in one["choices"] for one in others) and others[-1]["value"] == "context"
        examples.read_again(desk, "instruction", "response", "(guess)", "")
        assert "context" not in desk.drafts.rows[0] and desk.drafts.rows[0]["demonstration"] == "It opened in 1910."
        assert examples.columns(desk)[-1]["value"] == ""
