"""Tables of Markdown and turns of Q: and A:, as people write and paste them."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.demonstrations import parse, read
from workbench.errors import InputError


def test_a_table_of_markdown_with_words_around_it() -> None:
    text = "# My rows\n\n| Question | Answer |\n|:---|---:|\n| two \\| three? | a \\| b |\n|What?|  |\n\nThat is all."
    with pytest.raises(InputError, match=r"line 6: .*[Aa]nswer"):
        parse(text)
    reading = parse(text.replace("|  |", "| this |"))
    assert [(r.prompt, r.demonstration) for r in reading.rows] == [("two | three?", "a | b"), ("What?", "this")]
    assert "the table in lines 3 to 6 is read; 2 other lines are not" in reading.notes[0]


def test_bars_outside_are_optional_and_a_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.md"
    path.write_text("prompt | demonstration | answer\n--- | --- | ---\na? | it is a | a\nb? | it is b | b\n")
    reading = read(path)
    assert [(r.prompt, r.demonstration, r.answer) for r in reading.rows] == [
        ("a?", "it is a", "a"),
        ("b?", "it is b", "b"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("| prompt | answer |\n|---|---|\n| a | b | c |", "line 3 has 3 cells; the header has 2"),
        ("| prompt | answer |\n|---|---|\n", "a header and no rows"),
        ("| prompt | prompt |\n|---|---|\n| a | b |", "two columns called 'prompt'"),
        ("Q: one?\nA: 1\n\nQ: two?\nQ: three?\nA: 3", "line 4 is a question without an answer"),
        ("Q: one?\nA: 1\nQ: two?", "line 3 is a question without an answer"),
        ("Q: one?\nA: 1\nA: 2", "line 3 is an answer to no question"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse(text)


@pytest.mark.parametrize(("asks", "says"), [("Q", "A"), ("question", "ANSWER"), ("User ", "Assistant"), ("Q1", "A1")])
def test_turns_go_on_over_lines(asks: str, says: str) -> None:
    text = f"\n{asks}: What is\n  it?\n{says}: This.\n\n- and that\n\n{asks}: Who?\n{says}: She: the one"
    rows = parse(text).rows
    assert [(r.prompt, r.demonstration) for r in rows] == [
        ("What is\n  it?", "This.\n\n- and that"),
        ("Who?", "She: the one"),
    ]


@pytest.mark.parametrize("text", ["a => b\nc => d", "prompt,answer\nQ: a,b", "A word: and => another\nx => y"])
def test_other_text_is_read_as_before(text: str) -> None:
    assert len(parse(text).rows) == len(text.splitlines()) - text.startswith("prompt")


def test_an_old_workbook_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "old.xls"
    path.write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(InputError, match=r"Excel 2003 or earlier") as raised:
        read(path)
    assert ".xlsx" in str(raised.value.advice)
