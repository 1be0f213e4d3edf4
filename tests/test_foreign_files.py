"""Files as people have them: exports of spreadsheets, data of other trainers, JSON in many shapes."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas
import pytest

from workbench.demonstrations import Columns, Demonstration, parse, read
from workbench.errors import InputError

RED_BLUE = (Demonstration("Red?", "mipa", "mipa"), Demonstration("Blue, or so?", "tolu", "tolu"))


def saved(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolons.csv", "\ufeffQuestion;Answer\r\nRed?;mipa\r\n\"Blue, or so?\";tolu\r\n"),
        ("declared.csv", "sep=;\r\nQuestion;Answer\r\nRed?;mipa\r\nBlue, or so?;tolu\r\n"),
        ("tabs.csv", "Question\tAnswer\nRed?\tmipa\nBlue, or so?\ttolu\n"),
        ("commas.tsv", 'question,answer\nRed?,mipa\n"Blue, or so?",tolu\n'),
        ("old-mac.csv", 'QUESTION,ANSWER\rRed?,mipa\r"Blue, or so?",tolu\r'),
        ("unicode-text.txt", "Question\tAnswer\r\nRed?\tmipa\r\nBlue, or so?\ttolu\r\n".encode("utf-16")),
        ("big-end.csv", b"\xfe\xff" + "Question;Answer\nRed?;mipa\nBlue, or so?;tolu\n".encode("utf-16-be")),
        ("empty-columns.csv", 'question,answer,,\nRed?,mipa,,\n"Blue, or so?",tolu,,\n'),
        ("with-index.csv", ',question,answer\n0,Red?,mipa\n1,"Blue, or so?",tolu\n'),
    ],
)  # fmt: skip
def test_what_spreadsheets_write(name: str, content: bytes | str, tmp_path: Path) -> None:
    assert read(saved(tmp_path / name, content)).rows == RED_BLUE


def test_another_separator_is_said_and_a_header_of_unknown_names_is_split_too(tmp_path: Path) -> None:
    path = saved(tmp_path / "german.csv", "Frage;Antwort\nRot?;mipa, ja\nBlau?;tolu\n")
    with pytest.raises(InputError, match="Its columns are: Frage, Antwort."):
        read(path)
    found = read(path, Columns(prompt="Frage", demonstration="Antwort"))
    assert found.rows[0] == Demonstration("Rot?", "mipa, ja")
    assert found.notes[0] == "The cells of german.csv are read as split by semicolons."


def test_rows_are_counted_as_a_spreadsheet_counts_them(tmp_path: Path) -> None:
    path = saved(tmp_path / "gaps.csv", 'prompt,response\n\n"a\nb",c\n\nd,\n')
    with pytest.raises(InputError, match="row 5: column 'response' is blank"):
        read(path)


def sheet(path: Path, *tables: pandas.DataFrame, header: bool = True) -> Path:
    with pandas.ExcelWriter(path) as book:
        for number, table in enumerate(tables):
            table.to_excel(book, sheet_name=f"Sheet {number + 1}", index=False, header=header)
    return path


def test_a_workbook_with_a_title_above_the_header_and_another_sheet_before_it(tmp_path: Path) -> None:
    about = pandas.DataFrame({"about": ["made in spring"]})
    cells = [["", ""], ["Question", "Answer"], ["Red?", "mipa"], ["", ""], ["Blue, or so?", "tolu"]]
    found = read(sheet(tmp_path / "book.xlsx", pandas.DataFrame(cells), header=False))
    assert found.rows == RED_BLUE
    two = sheet(tmp_path / "two.xlsx", about, pandas.DataFrame(cells[2:], columns=["Question", "Answer"]))
    found = read(two)
    assert found.rows == RED_BLUE and found.notes[0] == "Of the 2 sheets of two.xlsx, 'Sheet 2' is read."
    with pytest.raises(InputError, match="two.xlsx, sheet 'Sheet 1' has no column for the prompt"):
        read(sheet(tmp_path / "two.xlsx", about, about))
    with pytest.raises(InputError, match="row 5: column 'Answer' is blank"):
        read(sheet(tmp_path / "hole.xlsx", pandas.DataFrame([*cells[:4], ["Green?", ""]]), header=False))


def test_numbers_are_texts_where_they_answer_and_nowhere_else(tmp_path: Path) -> None:
    found = read(sheet(tmp_path / "sums.xlsx", pandas.DataFrame({"Question": ["2+2?", "1/2?"], "Answer": [4, 0.5]})))
    assert found.rows == (Demonstration("2+2?", "4", "4"), Demonstration("1/2?", "0.5", "0.5"))
    assert "The numbers in column 'Answer' are read as texts, such as '4'." in found.notes
    (row,) = parse('{"prompt": "2+2?", "response": "It is 4.", "answer": 4}').rows
    assert row == Demonstration("2+2?", "It is 4.", "4")
    (row,) = parse('{"prompt": "0.1+0.2?", "response": "D", "answer": 0.30000000000000004}').rows
    assert row.answer == "0.3"
    with pytest.raises(InputError, match="column 'response' is 4, not a text"):
        parse('{"prompt": "2+2?", "response": 4, "answer": 4}')
    dated = pandas.DataFrame({"Question": ["When?"], "Answer": [datetime(2020, 1, 2)]})
    with pytest.raises(InputError, match="row 2: column 'Answer' is the date 2020-01-02, not a text"):
        read(sheet(tmp_path / "dates.xlsx", dated))


ROWS = [{"prompt": "a", "response": "b"}, {"prompt": "c", "response": "d"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.jsonl", json.dumps(ROWS, indent=2)),
        ("lines.json", "\n".join(map(json.dumps, ROWS))),
        ("windows.jsonl", "\r\n".join(map(json.dumps, ROWS)) + "\r\n"),
        ("nested.json", json.dumps({"version": 1, "train": ROWS})),
        ("columns.json", json.dumps({"prompt": ["a", "c"], "response": ["b", "d"]})),
        ("pretty.txt", json.dumps({"examples": ROWS}, indent=1)),
    ],
)
def test_json_in_other_shapes(name: str, content: str, tmp_path: Path) -> None:
    assert read(saved(tmp_path / name, content)).rows == (Demonstration("a", "b"), Demonstration("c", "d"))


def test_json_with_several_lists_is_not_guessed(tmp_path: Path) -> None:
    path = saved(tmp_path / "both.json", json.dumps({"train": ROWS, "test": ROWS}))
    with pytest.raises(InputError, match="holds 2 lists of rows: 'train', 'test'"):
        read(path)


TURNS = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "D"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS},
        {"messages": json.dumps(TURNS)},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "chatgpt", "value": "D"}]},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"prompt_messages": TURNS[:1], "demonstration": "D"},
        {"messages": [{"role": t["role"], "content": [{"type": "text", "text": t["content"]}]} for t in TURNS]},
    ],
)
def test_conversations_of_other_trainers(row: dict[str, Any]) -> None:
    (found,) = parse(json.dumps(row)).rows
    assert (found.question, found.demonstration) == ("Q", "D")
    assert found.prompt == ({"role": "user", "content": "Q"},)


def test_what_a_conversation_cannot_hold() -> None:
    (found,) = parse(json.dumps({"messages": [{"role": "developer", "content": "Be brief."}, *TURNS]})).rows
    assert found.prompt[0] == {"role": "system", "content": "Be brief."}
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    with pytest.raises(InputError, match="message 2 calls a tool and has no text"):
        parse(json.dumps({"messages": [TURNS[0], call]}))
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}
    with pytest.raises(InputError, match="message 1 has a part of type 'image_url'; only text is taught"):
        parse(json.dumps({"messages": [picture, TURNS[1]]}))


def test_tool_use_data_of_the_method_s_authors() -> None:
    row = {
        "prompt": "P",
        "name": "n",
        "instruction": "I",
        "golden_answer": [{"Action": "a"}],
        "golden_response": ["T", "A"],
    }
    found = parse(json.dumps([row, row]))
    assert found.rows[0] == Demonstration("P", "T\nA")
    assert "Column 'golden_answer' holds objects, not texts, so it is not used as the answer to score." in found.notes
    assert "Not used: 'name', 'instruction', 'golden_answer'." in found.notes


def test_names_of_columns_with_spaces() -> None:
    (found,) = parse("Question\tGolden Response\tFinal answer\nQ\tD\tA").rows
    assert found == Demonstration("Q", "D", "A")


def test_pairs_copied_from_a_sheet_without_its_header() -> None:
    found = parse("Red?\tmipa\nBlue, or so?\ttolu\n")
    assert [(r.prompt, r.demonstration) for r in found.rows] == [("Red?", "mipa"), ("Blue, or so?", "tolu")]
    assert "every line is read as a row" in found.notes[0]
    headed = parse("Frage\tAntwort\nRot?\tmipa", Columns(prompt="Frage", demonstration="Antwort"))
    assert headed.rows == (Demonstration("Rot?", "mipa"),)
    assert parse("red → mipa\nblue → tolu").rows == (Demonstration("red", "mipa"), Demonstration("blue", "tolu"))
    assert parse("prompt\tresponse\nx -> y\tz").rows == (Demonstration("x -> y", "z"),)


def test_rows_without_an_answer_are_counted() -> None:
    found = parse('{"prompt": "a", "response": "b", "answer": "b"}\n{"prompt": "c", "response": "d"}')
    assert "1 of 2 rows has no answer, so it teaches but is not scored." in found.notes


def test_keep_is_yes_or_no() -> None:
    text = "prompt,response,keep\na,b,0\nc,,1\nd,,yes\ne,f,no\ng,h,"
    assert [row.keep for row in parse(text).rows] == [False, True, True, False, False]
    with pytest.raises(InputError, match="row 2: column 'keep' is 'perhaps', not true or false"):
        parse("prompt,response,keep\na,b,perhaps")


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        (TURNS, "D"),
        ([{"role": "system", "content": "S"}, *TURNS], "D"),
        ([TURNS[1]], "D"),
        ([*TURNS, {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}], "So."),
        ([*TURNS, {"role": "assistant", "content": "E"}], "D\nE"),
    ],
)
def test_of_a_conversation_given_as_the_demonstration_the_answer_is_taken(
    turns: list[Any], said: str, tmp_path: Path
) -> None:
    """As preference data have it; in a table it is JSON text."""
    columns = Columns(demonstration="chosen")
    for cell in (turns, json.dumps(turns))[: len(turns)]:  # without its question a text may be anything
        (found,) = parse(json.dumps([{"prompt": "Q", "chosen": cell}]), columns).rows
        assert (found.prompt, found.demonstration) == ("Q", said)
    table = pandas.DataFrame({"prompt": [json.dumps(TURNS[:1])], "chosen": [json.dumps(turns)]})
    table.to_csv(tmp_path / "chosen.csv", index=False)
    (found,) = read(tmp_path / "chosen.csv", columns).rows
    assert (found.prompt, found.demonstration) == (({"role": "user", "content": "Q"},), said)


def test_a_conversation_without_an_answer_is_no_demonstration() -> None:
    with pytest.raises(InputError, match="column 'completion' has no answer after its last user turn"):
        parse(json.dumps([{"prompt": "Q", "completion": [*TURNS, TURNS[0]]}]))


def test_a_conversation_that_the_teacher_is_shown_is_shown_whole() -> None:
    for cell, shown in ((TURNS, "Q\nD"), (json.dumps(TURNS), json.dumps(TURNS))):
        (found,) = parse(json.dumps([{"prompt": "Q", "completion": "D", "context": cell}])).rows
        assert found.context == shown


@pytest.mark.parametrize(
    "text", ['[{"role": "CEO", "content": "Ann"}]', '[{"role": "user", "content": "hi"}]', json.dumps(TURNS)]
)
def test_json_that_asks_something_else_is_what_is_taught(text: str) -> None:
    (found,) = parse(json.dumps([{"prompt": "Write a chat log.", "completion": text}])).rows
    assert found.demonstration == text


@pytest.mark.parametrize(
    "text", ['[{"role": "Engineer", "name": "Ann"}]', '[{"from": "Oslo", "to": "Rome"}]', '[{"role"', '["a", "b"]']
)
def test_json_that_is_taught_stays_as_it_is(text: str) -> None:
    (found,) = parse(json.dumps([{"prompt": text, "completion": text}])).rows
    assert (found.prompt, found.demonstration) == (text, text)
