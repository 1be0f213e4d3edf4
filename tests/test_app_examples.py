"""The page Examples: taking rows in, the table, ask-fix-keep, the questions to keep."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
import pytest

from tests.desks import FAKE
from workbench.app import examples, fixing, intake, one_example, rows, samples, sheet
from workbench.app.desk import Desk
from workbench.app.notes import wrong
from workbench.demonstrations import Columns, read
from workbench.errors import InputError
from workbench.worker import Worker

EVIL = "<img src=x onerror=alert(1)></script>\u202eabc"
PASTED = "What is one? => It is 1.\nWhat is two? => It is 2.\nWhat is three? => It is 3."


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk whose worker was not started: what needs no model must not wait for one."""
    return Desk.at(tmp_path / "runs", Worker(tmp_path / "runs", command=FAKE))


@pytest.fixture
def working(desk: Desk) -> Iterator[Desk]:
    desk.worker.start()
    yield desk
    desk.worker.close()


def as_text(table: list[list[Any]]) -> list[list[Any]]:
    """A table's lines, to be changed."""
    return [list(line) for line in table]


def edit(desk: Desk, shown: dict[str, Any], lines: list[list[Any]]) -> list[Any]:
    """The table that was `shown` comes back from a browser with other lines."""
    return sheet.edit_table(desk, pd.DataFrame(lines, columns=shown["headers"]), 1, False)


@pytest.mark.parametrize("sample", samples.SAMPLES, ids=lambda s: s.name)
def test_every_bundled_set_can_be_used(desk: Desk, sample: samples.Sample) -> None:
    said = intake.use_sample(desk, sample.name)
    count = len(read(samples.path(sample.name)).rows)
    assert str(count) in said
    assert (len(desk.drafts.keep) if sample.keep else len(desk.drafts.rows)) == count
    assert not desk.drafts.problems


def test_a_set_that_is_none_is_refused(desk: Desk) -> None:
    for name in ("../pyproject", "zorbic.jsonl", ""):
        with pytest.raises(InputError, match="no sample set"):
            intake.use_sample(desk, name)


def test_the_split_is_said(desk: Desk) -> None:
    made = examples.use_sample(desk, "zorbic")
    assert "200 examples" in made[0] and "140 will teach" in made[2] and "60 are kept back" in made[2]
    assert len(made[1]["data"]) == rows.PAGE and made[3]["maximum"] == 4


def test_pasted_rows_are_in_the_table_with_their_columns(desk: Desk) -> None:
    made = examples.use_text(desk, PASTED, False)
    assert [line[2] for line in made[1]["data"]] == ["What is one?", "What is two?", "What is three?"]
    shown, notes, *lists = examples.columns(desk)
    assert shown["visible"] and "answer" not in notes, "that there are none is said once, where the rows are counted"
    assert "1 is kept back for the test, without a right answer to look for, so skill cannot be measured" in made[2]
    assert [choice["value"] for choice in lists] == ["prompt", "demonstration", "(guess)", "(guess)"]


def test_rows_that_repeat_others_are_told_of(desk: Desk) -> None:
    made = examples.use_text(desk, PASTED, False)
    assert "again" not in made[2]
    desk.drafts.add(desk.drafts.rows[0])
    assert "1 row says the same as an earlier one, and counts again." in sheet.summary(desk)


def test_a_wrong_row_stands_beside_its_problem_and_keeps_no_other_out(desk: Desk) -> None:
    text = '{"prompt": "A?", "demonstration": "a"}\n{"prompt": "B?", "demonstration": 7}\n{"prompt": "C?"}\n'
    text += '{"prompt": "D?", "demonstration": "d"}'
    made = examples.use_text(desk, text, False)
    assert [bool(line[1]) for line in made[1]["data"]] == [False, True, True, False]
    assert "not a text" in made[1]["data"][1][1] and made[1]["data"][1][3] == "7"
    assert made[1]["data"][1][1].startswith("The answer of the example is 7")
    assert "2 of 4 rows are wrong" in made[2] and "1 will teach" in made[2]
    assert "wrong" not in made[0] + examples.columns(desk)[1], "it is said once"
    assert [line[0] for line in rows.lines(desk.drafts, 1, wrong_only=True)] == [2, 3]
    examples.choose(desk, 30, True)
    one_example.delete(desk, 3, 1, False)
    assert sheet.summary(desk).count("1 of 3 rows is wrong") == 1, "and blocks the others"
    assert "1 row was deleted; Undo brings it back." in examples.delete_wrong(desk)[0]
    assert [row["prompt"] for row in desk.drafts.rows] == ["A?", "D?"]


def test_text_that_is_no_table_is_refused_in_words_and_changes_nothing(desk: Desk) -> None:
    examples.use_sample(desk, "zorbic")
    for text in ("", "Hello there", '{"prompt": ', "\x00"):
        assert "note-wrong" in examples.use_text(desk, text, False)[0]
    assert len(desk.drafts.rows) == 200


def test_a_column_is_changed_in_place_also_after_a_restart(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "my set <b>.csv"
    file.write_text("question,reply,truth\nOne?,It is 1.,1\nTwo?,It is 2.,2\n")
    examples.use_file(desk, str(file), False)
    assert desk.drafts.rows[0] == {"prompt": "One?", "demonstration": "It is 1."}
    file.unlink()
    restarted = Desk.at(desk.runs, desk.worker)
    examples.read_again(restarted, "question", "reply", "truth", "(guess)")
    assert restarted.drafts.rows[0] == {"prompt": "One?", "demonstration": "It is 1.", "answer": "1"}
    assert intake.latest(restarted).chosen["answer"] == "truth"
    with pytest.raises(InputError, match="no column"):
        intake.read_again(restarted, {"prompt": "elsewhere"})


def test_columns_that_nobody_can_guess_are_chosen_in_place(desk: Desk) -> None:
    desk.drafts.add({"prompt": "Zero?", "demonstration": "It is 0."})
    shown = examples.use_text(desk, "eins,zwei\nOne?,It is 1.\nTwo?,It is 2.\n", True)
    assert (
        "The pasted text has no column of what is asked" in shown[0]
        and "Choose the column of what is asked" in shown[0]
    )
    assert "--" not in shown[0] and len(desk.drafts.rows) == 1
    assert ">empty.csv is" in wrong(InputError("empty.csv is empty.", "Put rows in it.")), "a name stays as it is"
    visible, _, *lists = shown[-6:]
    assert visible["visible"] and lists[0]["choices"] == ["(guess)", "eins", "zwei"]
    shown = examples.read_again(desk, "eins", "(guess)", "(guess)", "(guess)")
    assert "no column of the example&#x27;s answer" in shown[0] and shown[-4]["value"] == "eins"
    assert "2 rows were read" in examples.read_again(desk, "eins", "zwei", "(guess)", "(guess)")[0]
    assert [row["prompt"] for row in desk.drafts.rows] == ["Zero?", "One?", "Two?"]


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet", "tsv", "txt", "xlsx"])
def test_files_of_every_kind_are_taken_in(desk: Desk, tmp_path: Path, kind: str) -> None:
    import pandas as pd

    frame = pd.DataFrame({"prompt": ["A?", "B?"], "demonstration": ["It is a.", "It is b."]})
    file = tmp_path / f"rows.{kind}"
    if kind in ("csv", "tsv"):
        frame.to_csv(file, index=False, sep="\t" if kind == "tsv" else ",")
    elif kind in ("json", "jsonl"):
        frame.to_json(file, orient="records", lines=kind == "jsonl")
    elif kind == "txt":
        file.write_text("A? => It is a.\nB? => It is b.\n")
    else:
        getattr(frame, {"xlsx": "to_excel", "parquet": "to_parquet"}[kind])(file, index=False)
    intake.use_file(desk, str(file))
    assert [row["prompt"] for row in desk.drafts.rows] == ["A?", "B?"] and desk.drafts.name == "rows"


def test_more_rows_are_put_after_those_that_are_there(desk: Desk) -> None:
    examples.use_text(desk, PASTED, False)
    examples.use_text(desk, "Four? => 4", True)
    assert [row["prompt"] for row in desk.drafts.rows][2:] == ["What is three?", "Four?"]
    examples.use_text(desk, "Five? => 5", False)
    assert len(desk.drafts.rows) == 1
    examples.undo(desk, 1, False)
    assert len(desk.drafts.rows) == 4


def test_only_what_was_changed_in_the_table_is_taken_over(desk: Desk) -> None:
    long = "word " * 5000
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi?"}]
    desk.drafts.replace_rows(
        [
            {"prompt": turns, "demonstration": long, "id": "a", "tags": ["t"]},
            {"prompt": "Two?", "demonstration": "2", "answer": "2"},
        ],
        "set",
    )
    before = desk.drafts.rows
    table, *_ = sheet.view(desk)
    assert len(table["data"][0][3]) < 600, "a long cell is shown cut"
    edited = as_text(table["data"])
    edited[1][4] = "two"
    made = edit(desk, table, edited)
    assert "1 row changed" in made[0] and made[1] == gr.skip(), "the table is not drawn over who writes in it"
    assert desk.drafts.rows[0] == before[0], "the cut text is not taken for an edit"
    assert desk.drafts.rows[1]["answer"] == "two"
    edited[0][2] = json.dumps([{"role": "user", "content": "Hello?"}])
    edited[1][4] = ""
    assert "2 rows changed" in edit(desk, table, edited)[0]
    assert desk.drafts.rows[0]["prompt"] == [{"role": "user", "content": "Hello?"}]
    assert desk.drafts.rows[0]["tags"] == ["t"] and "answer" not in desk.drafts.rows[1]
    edited[1][4] = "2"
    edit(desk, table, edited)
    assert desk.drafts.rows[1] == before[1], "back to what it was when the table was drawn"
    assert edit(desk, table, edited) == [gr.skip()] * len(made), "what is sent twice is taken once"


def test_what_is_not_shown_of_a_long_text_stays_when_the_rest_is_edited(desk: Desk) -> None:
    long = "word " * 150 + "the end"
    desk.drafts.replace_rows([{"prompt": "Q?", "demonstration": long}], "set")
    table, *_ = sheet.view(desk)
    for change, meant in (
        (lambda cell: cell.replace("word", "WORD", 1), long.replace("word", "WORD", 1)),
        (lambda cell: cell + ", at last", long + ", at last"),
        (lambda cell: "Short.", "Short."),
    ):
        edited = as_text(table["data"])
        edited[0][3] = change(edited[0][3])
        assert "1 row changed" in edit(desk, table, edited)[0]
        assert desk.drafts.rows[0]["demonstration"] == meant
        assert edit(desk, table, edited)[0] == gr.skip(), "sent twice, it is taken once"
        desk.drafts.replace_rows([{"prompt": "Q?", "demonstration": long}], "set")
        table, *_ = sheet.view(desk)


def test_a_table_that_is_behind_is_not_taken_over(desk: Desk) -> None:
    examples.use_text(desk, PASTED, False)
    table, *_ = sheet.view(desk)
    edited = as_text(table["data"])
    edited[0][2] = "Changed here?"
    desk.drafts.delete(0)
    for _ in range(2):  # some browsers send the old table once more
        made = edit(desk, table, edited)
        assert "Row 1 was changed elsewhere" in made[0] and "Changed here?" in made[0], "what was typed is not lost"
        assert [row["prompt"] for row in desk.drafts.rows] == ["What is two?", "What is three?"]
        assert len(made[1]["data"]) == 2
    shown = as_text(made[1]["data"])
    shown[0][2] = "Changed now?"
    assert "1 row changed" in edit(desk, made[1], shown)[0]
    assert [row["prompt"] for row in desk.drafts.rows] == ["Changed now?", "What is three?"]


def test_two_tabs_edit_at_once(desk: Desk) -> None:
    examples.use_text(desk, PASTED, False)
    first, second = sheet.view(desk)[0], sheet.view(desk)[0]
    lines, others = as_text(first["data"]), as_text(second["data"])
    lines[0][3], others[1][3] = "One.", "Two."
    edit(desk, first, lines)
    made = edit(desk, second, others)
    assert [row["demonstration"] for row in desk.drafts.rows] == ["One.", "Two.", "It is 3."]
    assert [line[3] for line in made[1]["data"]] == ["One.", "Two.", "It is 3."], "the second tab sees both"
    lines[1][3], lines[2][3] = "Mine.", "Three."
    made = edit(desk, first, lines)
    assert [row["demonstration"] for row in desk.drafts.rows] == ["One.", "Two.", "Three."], "nothing is written over"
    assert "1 row changed" in made[0] and "Row 2 was changed elsewhere" in made[0] and "Mine." in made[0]


def test_a_table_that_is_too_old_is_known_while_the_rows_are_the_same(desk: Desk) -> None:
    examples.use_text(desk, PASTED, False)
    table, *_ = sheet.view(desk)
    edited = as_text(table["data"])
    edited[0][2] = "Changed here?"
    desk = Desk.at(desk.runs, desk.worker)
    assert "1 row changed" in edit(desk, table, edited)[0]
    desk = Desk.at(desk.runs, desk.worker)
    edited[0][2] = "Changed again?"
    assert "changed elsewhere" in edit(desk, table, edited)[0] and desk.drafts.rows[0]["prompt"] == "Changed here?"
    assert "changed elsewhere" in edit(desk, {"headers": rows.HEADERS}, edited)[0], "a table without a mark"


def test_a_file_that_is_dropped_on_the_table_changes_nothing(desk: Desk) -> None:
    examples.use_text(desk, PASTED, False)
    made = edit(desk, {"headers": ["a", "b", "c"]}, [["1", "x", "y"], ["2", "x", "y"]])
    assert "Upload examples" in made[0] and len(made[1]["data"]) == 3 and desk.drafts.changes == 1


def test_a_line_without_a_number_is_a_new_row_and_a_missing_one_is_no_deletion(desk: Desk) -> None:
    examples.use_text(desk, PASTED, False)
    table, *_ = sheet.view(desk)
    more = [[None, "", "Four?", "It is 4.", float("nan"), None], ["", "", "", "", "", ""]]
    edited = [*as_text(table["data"])[1:], *more]
    for _ in range(2):
        edit(desk, table, edited)
        asked = [row["prompt"] for row in desk.drafts.rows]
        assert asked == ["What is one?", "What is two?", "What is three?", "Four?"]
    assert desk.drafts.rows[3] == {"prompt": "Four?", "demonstration": "It is 4."}


def test_the_form_writes_changes_and_deletes_a_row(desk: Desk) -> None:
    examples.use_text(desk, PASTED, False)
    assert one_example.pick(desk, 2) == [2, "What is two?", "It is 2.", "", ""]
    assert one_example.pick(desk, 99)[0] == one_example.pick(desk, None)[0] == 0
    one_example.save(desk, 2, 1, False, "What is two?", "Two it is.", "2", "")
    assert desk.drafts.rows[1] == {"prompt": "What is two?", "demonstration": "Two it is.", "answer": "2"}
    assert "No row is chosen" in one_example.save(desk, 0, 1, False, "a", "b", "", "")[0]
    assert one_example.add(desk, EVIL, "So.", "", "An article.")[-5:] == [0, "", "", "", ""], "for the next one"
    assert desk.drafts.rows[3] == {"prompt": EVIL, "demonstration": "So.", "context": "An article."}
    assert one_example.delete(desk, 1, 1, False)[-1] == 0, "the form is not about the next row now"
    assert len(desk.drafts.rows) == 3
    assert "note-wrong" in one_example.delete(desk, 0, 1, False)[0] and len(desk.drafts.rows) == 3
    assert one_example.delete(desk, 7, 1, False)[-1] == 7


def test_the_download_is_read_again_with_the_questions_to_keep(desk: Desk) -> None:
    assert examples.as_file(desk) is None
    examples.use_text(desk, PASTED, False)
    desk.drafts.add({"prompt": "Wrong?"})
    desk.drafts.add_keep(EVIL)
    cache = Path(os.environ["GRADIO_TEMP_DIR"])
    sheet.view(desk)
    assert not any(cache.rglob("*.jsonl")), "looking at the table writes no file"
    file = examples.as_file(desk)
    assert file is not None and cache in file.parents
    found = read(file).rows
    assert [row.keep for row in found] == [False, False, False, True] and found[3].prompt == EVIL


@pytest.mark.parametrize("text", [EVIL, "x" * 100_000, "\u202e\u2066right to left"])
def test_no_text_becomes_an_element_or_turns_the_page(desk: Desk, text: str) -> None:
    desk.drafts.replace_rows([{"prompt": text, "demonstration": text}, {"prompt": "B?"}], text)
    desk.drafts.add_keep(text)
    html = sheet.summary(desk) + "".join(map(str, examples.columns(desk)[1]))
    html += fixing.set_keep(desk, text)[0] + examples.use_text(desk, text, False)[0]
    assert "<img" not in html and "</script" not in html and "\u202e" not in html and len(html) < 12_000
    assert all(len(str(cell)) < 600 for line in rows.lines(desk.drafts, 1) for cell in line)


def test_what_is_read_is_shown_with_its_length(working: Desk) -> None:
    examples.use_text(working, PASTED, False)
    student, teacher, said = fixing.prompts(working, 2)
    assert "What is two?" in student and "It is 2." not in student and "It is 2." in teacher
    assert "tokens" in said
    working.drafts.add({"prompt": "No example?"})
    assert fixing.prompts(working, 4)[:2] == ["", ""] and "Row 4 is wrong" in fixing.prompts(working, 4)[2]
    assert "Choose a row" in fixing.prompts(working, 0)[2]


def test_without_a_worker_it_says_so(desk: Desk) -> None:
    examples.use_text(desk, PASTED, False)
    assert "note-wrong" in fixing.prompts(desk, 1)[2]
    assert "note-wrong" in list(fixing.ask(desk, "Hello?"))[-1][1]


def test_ask_fix_keep(working: Desk) -> None:
    came = list(fixing.ask(working, " What is red? "))
    assert came[-1][0] == "I do not know: What is red?" and len(came) > 1
    assert "row 1" in fixing.keep_example(working, "What is red?", "It is mipa.", "mipa")[0]
    assert working.drafts.rows == ({"prompt": "What is red?", "demonstration": "It is mipa.", "answer": "mipa"},)
    refused, *table = fixing.keep_example(working, "What is red?", " ", "")
    assert "note-wrong" in refused and table == [gr.skip()] * sheet.VIEW
    assert "This question fails" in list(fixing.ask(working, "boom"))[-1][1]
    *_, (own, _said) = fixing.ask(working, "What is 3 plus 4?")
    for question, answer, why in (("What is 4?", own, "Ask it first"), ("What is 3 plus 4?", "8", "was corrected")):
        refused, kept = fixing.keep_as_is(working, question, answer), fixing.keep_text(working)
        assert why in refused and "note-wrong" in refused and kept == ""
    fixing.keep_as_is(working, "What is 3 plus 4?", own)
    assert fixing.keep_text(working) == "What is 3 plus 4?"


def test_what_was_kept_or_added_is_on_the_page_that_is_shown(desk: Desk) -> None:
    examples.use_sample(desk, "zorbic")
    for act in (fixing.keep_example, one_example.add):
        made = act(desk, f"{act.__name__}?", "So.", *[""] * (1 if act is fixing.keep_example else 2))
        number, _, question, *_ = made[1]["data"][-1]
        assert (number, question) == (len(desk.drafts.rows), desk.drafts.rows[-1]["prompt"])
        assert made[3]["value"] == 5 and made[6]["value"] is False, "all rows are shown, and the box says so"


def test_the_questions_to_keep_are_edited_as_lines(desk: Desk) -> None:
    desk.drafts.add_keep({"prompt": "One?", "id": "k1"}, "Two\nlines?", '"Quoted" one?')
    text = fixing.keep_text(desk)
    assert text.splitlines() == ["One?", '"Two\\nlines?"', '"\\"Quoted\\" one?"']
    fixing.set_keep(desk, text + "\n\nNew?\n")
    assert [row["prompt"] for row in desk.drafts.keep] == ["One?", "Two\nlines?", '"Quoted" one?', "New?"]
    assert desk.drafts.keep[0]["id"] == "k1"
    assert "4 questions are to keep their answers." in fixing.set_keep(desk, fixing.keep_text(desk))[0]
    assert "1 question is to keep its answer." in fixing.set_keep(desk, "One?")[0]
    fixing.set_keep(desk, text + "\n\nNew?\n")
    assert "Line 1" in fixing.set_keep(desk, "[{broken")[0] and len(desk.drafts.keep) == 4
    cursor: dict[str, Any] = {}
    assert fixing.poll(desk, cursor)[1] == fixing.keep_text(desk)
    assert fixing.poll(desk, cursor)[1] == gr.skip()


def test_the_endpoint_loads_and_says_how_it_is_split(desk: Desk) -> None:
    import gradio as gr

    made = examples._load(desk, "zorbic", "", False)
    assert (made["name"], made["rows"], made["teaching"], made["held_out"]) == ("zorbic", 200, 140, 60)
    made = examples._load(desk, "", PASTED + "\nFour? =>  ", False)
    assert made["rows"] == 4 and list(made["problems"]) == ["4"]
    for arguments in (("", ""), ("zorbic", "a => b"), ("nothing", ""), ("", "no rows")):
        with pytest.raises(gr.Error):
            examples._load(desk, *arguments, False)


def test_lenient_reading_gives_the_same_rows_as_strict_reading() -> None:
    from workbench.demonstrations.lenient import read_leniently, row_from

    for sample in samples.SAMPLES:
        strict = read(samples.path(sample.name))
        lenient = read_leniently(samples.path(sample.name), Columns())
        assert tuple(map(row_from, lenient.rows)) == strict.rows
        # That nothing can be scored is said on the page where the rows are counted.
        assert lenient.notes == tuple(note for note in strict.notes if "no answer column" not in note)
