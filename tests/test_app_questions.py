"""A question of the Compare page: what is sent, what is refused, and how answers grow."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.app import questions
from workbench.app.questions import Answers, Sampling, follow, make_question
from workbench.demonstrations import Demonstration
from workbench.errors import InputError


def test_a_context_is_sent_as_one_unless_it_was_changed() -> None:
    row = Demonstration(prompt="When?", demonstration="In 1947.", context="A long article.")
    assert questions.shown_by(row) == "A long article."
    asked = make_question("When?", shown="A long article.", row=row)
    assert (asked.demonstration, asked.context, asked.shown) == ("In 1947.", "A long article.", "A long article.")
    changed = make_question("When?", shown="Another.", row=row)
    assert (changed.demonstration, changed.context) == ("Another.", None)


def test_a_conversation_goes_before_the_question() -> None:
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    asked = make_question(" And now? ", turns=turns)
    assert [m["content"] for m in asked.messages] == ["Hi.", "Hello.", "And now?"]
    several = Demonstration(prompt=({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Now?"}))
    assert make_question("Now?", row=several).messages[0] == {"role": "system", "content": "Be kind."}
    assert make_question("Now?", row=several, turns=turns).messages[0]["content"] == "Hi."


def test_what_is_right_is_that_of_the_row_and_unknown_after_other_turns() -> None:
    row = Demonstration(prompt="Red?", demonstration="Red is mipa.", answer="mipa")
    sent = make_question("Red?", shown="Something else.", row=row, scorer="exact").arguments(Sampling())
    assert (sent["right"], sent["scorer"]) == ("mipa", "exact")
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    assert make_question("Red?", row=row, turns=turns).right is None
    assert make_question("Blue?").right is None


def test_different_answers_are_counted_with_what_is_right() -> None:
    said = [{"text": "a", "right": True}, {"text": "b ", "right": False}, {"text": "a", "right": True}, {"text": "b"}]
    assert questions.tally(said) == [("a", 2, True), ("b", 1, False), ("b", 1, None)]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_question_says_what_to_do(text: str) -> None:
    with pytest.raises(InputError, match="no question"):
        make_question(text)


@pytest.mark.parametrize(
    "fields", [(-1, 1, 0, 0, None), (0, 1.5, 0, 0, None), (0, 1, -3, 0, None), (0, 1, 0, -1, None), (0, 1, 0, 0, 9999)]
)
def test_sampling_is_checked(fields: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match="must be"):
        Sampling.of(*fields)


def test_empty_fields_stand_for_defaults() -> None:
    assert Sampling.of(None, None, None, None, None) == Sampling()
    assert Sampling.of("0.5", 0.9, 5.0, 7.0, 12.0) == Sampling(0.5, 0.9, 5, 7, 12)


def test_answers_grow_and_the_first_word_is_not_held_back() -> None:
    replies = [{"reply": "token", "role": "base", "time": 0, "text": "a" * n} for n in range(1, 50)]
    replies.append({"reply": "token", "role": "base", "time": 1, "text": "another try"})
    answer = {"text": "aaa", "tokens": 3, "seconds": 0.5}
    replies.append({"reply": "done", "result": {"answers": {"base": [answer]}, "prompts": {"base": "P"}}})
    times = iter(range(1000))
    seen = [(a.texts["base"], a.done) for a in follow(replies, lambda: next(times) * 0.01)]
    assert seen[0] == ("a", False)
    assert seen[-1] == ("aaa", True)
    assert 3 < len(seen) < 20


def test_a_failure_is_said_in_words() -> None:
    answers = Answers()
    answers.take({"reply": "failed", "problem": "It is too long.", "advice": "Shorten it."})
    assert answers.done and answers.problem == "It is too long. Shorten it."
