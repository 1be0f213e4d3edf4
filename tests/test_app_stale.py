"""Nothing stays on a page that is not true any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.desks import desk_at_rest
from tests.test_app_answered import last
from tests.test_app_compare import run  # noqa: F401
from workbench import Demonstration, Run
from workbench.app import asking, check, choosing, fixing, intake, one_example, sheet
from workbench.app.asking import Form
from workbench.app.desk import Cursor, Desk
from workbench.app.notes import note
from workbench.views import curves
from workbench.worker import Call


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at_rest(tmp_path) as made:
        yield made


def test_why_other_examples_could_not_be_asked_goes_with_them(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call()
    monkeypatch.setattr(desk.worker, "call", lambda do, **_: call)
    intake.use_text(desk, "prompt,demonstration\nOne?,It is 1.\nTwo?,It is 2.")
    task = check.start(desk)
    call._add({"id": 1, "reply": "failed", "problem": "2 of 2 rows are too long.", "advice": "Shorten.", "input": True})
    assert task.over.wait(60)
    assert "2 of 2 rows are too long" in check.said(desk)
    intake.use_sample(desk, "zorbic")
    assert check.said(desk) == ""
    assert desk.drafts.undo()
    assert "2 of 2 rows are too long" in check.said(desk)


def test_the_students_answer_names_its_run(desk: Desk, run: Run, rows: list[Demonstration]) -> None:  # noqa: F811
    seen = list(asking.ask(desk, Form(rows[9].question, run=run.name)))
    assert "Student of colours <" in last(seen, "student")
    assert "colours" not in last(seen, "base") + last(seen, "teacher")
    seen = list(asking.ask(desk, Form(rows[9].question, run=run.name, step=50, beside=50)))
    assert "Student of colours at step 50 <" in last(seen, "student")
    assert "Student at step 50 <" in last(seen, "earlier")
    often = [html for _, html in asking.ask_often(desk, Form(rows[9].question, run=run.name, step=50))]
    assert "Student of colours at step 50<" in often[-1] and "Base: the model as it was<" in often[-1]


def test_what_is_both_an_example_and_kept_is_said_wherever_it_comes_about(desk: Desk) -> None:
    told = "1 question is both taught and to be kept as before"
    intake.use_text(desk, "prompt,demonstration\nOne?,It is 1.\nTwo?,It is 2.")
    assert told not in fixing.set_keep(desk, "Three?\nThree?")[0] and len(desk.drafts.keep) == 1
    fixing.keep_example(desk, "Three?", "It is 3.", "")
    assert told in sheet.summary(desk)
    assert told in fixing.set_keep(desk, "One?")[0]
    desk.drafts.set_keep(())
    assert told not in sheet.summary(desk)


def test_as_at_the_beginning_is_only_said_where_it_is_so() -> None:
    assert curves._told("Retention", [(0, 1.0), (40, 1.0)]) == "Retention is 100% at step 40, as at the beginning."
    nearly = curves._told("Retention", [(0, 1.0), (40, 227 / 228)])
    assert nearly == "Retention is 100% at step 40, nearly as at the beginning."


def test_a_learning_rate_may_have_a_comma(desk: Desk) -> None:
    choosing.set_rate(desk, "0,002")
    assert desk.drafts.choices.settings["optim"]["lr"] == 0.002


def test_rows_that_cannot_be_scored_are_told_what_to_do(desk: Desk) -> None:
    intake.use_text(desk, "q => a\nr => b\ns => c")
    assert "choose it under Column of the right answer" in sheet.summary(desk)
    intake.use_sample(desk, "zorbic")
    assert "choose it under Column of the right answer" not in sheet.summary(desk)


def test_the_keep_list_is_not_drawn_over_while_it_is_written_in(desk: Desk) -> None:
    cursor: Cursor = {}
    desk.drafts.add_keep("One?")
    assert fixing.poll(desk, cursor) == [note("1 question is to keep its answer."), "One?"]
    fixing.write_keep(desk, cursor, "One?\nha")
    desk.drafts.add_keep("Elsewhere?")
    assert fixing.poll(desk, cursor) == [asking.SAME] * 2, "half a line stands in the field"
    refused, kept = fixing.leave_keep(desk, cursor, "One?\n[{half")
    assert "Line 2" in refused and kept == asking.SAME and fixing.poll(desk, cursor) == [asking.SAME] * 2
    fixing.write_keep(desk, cursor, "One?\nElsewhere?")
    assert fixing.leave_keep(desk, cursor, "Two?")[1] == "Two?\nElsewhere?", "One? was taken off the list here"
    desk.drafts.add_keep("Three?")
    assert fixing.poll(desk, cursor) == [note("3 questions are to keep their answers."), "Two?\nElsewhere?\nThree?"]


def test_a_line_taken_off_the_keep_list_stays_off(desk: Desk) -> None:
    cursor: Cursor = {}
    desk.drafts.add_keep("One?")
    fixing.poll(desk, cursor)
    fixing.write_keep(desk, cursor, "One?\nTwo?")
    fixing.leave_keep(desk, cursor, "One?\nTwo?")
    fixing.write_keep(desk, cursor, "One?\nTwo?")  # the last stroke, heard of late
    desk.drafts.add_keep("Elsewhere?")
    assert fixing.poll(desk, cursor)[1] == "One?\nTwo?\nElsewhere?", "nobody writes there now"
    fixing.write_keep(desk, cursor, "One?\nElsewhere?")
    assert fixing.leave_keep(desk, cursor, "One?\nElsewhere?")[1] == "One?\nElsewhere?"


@pytest.mark.parametrize("turn", [{"role": "user", "content": None}, {"role": 1, "content": "Hi."}])
def test_a_question_to_keep_that_is_none_is_refused(desk: Desk, turn: dict[str, Any]) -> None:
    assert "Line 1 is no conversation" in fixing.set_keep(desk, json.dumps([turn]))[0]
    assert not desk.drafts.keep


def test_a_wrong_row_to_keep_is_shown_with_the_rows(desk: Desk) -> None:
    good = [{"prompt": f"{i}?", "response": "So."} for i in range(4)]
    kept = [{"prompt": prompt, "keep": True} for prompt in (5, "One?")]
    intake.use_text(desk, "\n".join(json.dumps(row) for row in [*kept, *good]))
    assert [row["prompt"] for row in desk.drafts.keep] == ["One?"] and list(desk.drafts.problems) == [0]
    assert "1 question is to keep its answer." in sheet.summary(desk)
    intake.use_text(desk, '{"prompt": 6, "keep": true}\n{"prompt": "Two?", "keep": true}', add=True)
    assert [row["prompt"] for row in desk.drafts.keep] == ["One?", "Two?"] and list(desk.drafts.problems) == [0, 5]
    desk.drafts.set_keep(["One?"])
    desk.drafts.add_keep({"prompt": 5})  # as a draft from before may hold one
    assert "2 questions are to keep their answers." in sheet.summary(desk)


def test_rows_that_are_added_at_once_are_all_there(desk: Desk) -> None:
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda i: one_example.add(desk, f"{i}?", "So.", "", ""), range(24)))
        list(pool.map(lambda i: desk.drafts.add_keep(f"Keep {i}?"), range(24)))
    assert len(desk.drafts.rows) == len(desk.drafts.keep) == 24


def test_why_a_check_died_is_said_whatever_was_edited(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    intake.use_sample(desk, "zorbic")
    monkeypatch.setattr(desk.worker, "call", lambda do, **_: call)
    call = Call()
    task = check.start(desk)
    desk.drafts.delete(0)
    call._add({"id": 1, "reply": "failed", "problem": "The worker ended by itself.", "advice": "Again.", "died": True})
    assert task.over.wait(60) and "The worker ended by itself." in check.said(desk)


def test_the_form_says_what_became_of_a_row_and_keeps_what_was_not_taken(desk: Desk) -> None:
    desk.drafts.type("examples.form.prompt", "Four?")
    said, *_, number, question, _, _, _ = one_example.add(desk, "Four?", "", "", "")
    assert "Row 1 was kept as it is, but is left out. The answer of the example is missing or null." in said
    assert (number, question, desk.drafts.typed("examples.form.prompt")) == (0, "", "")
    assert "Row 1 was saved.<" in one_example.save(desk, 1, 1, False, "Four?", "It is 4.", "", "")[0]
    said, *_, number, question, _, _, _ = one_example.add(desk, " ", "It is 5.", "", "")
    assert "Nothing is asked yet" in said and number == question == asking.SAME
    assert "No row is chosen" in one_example.delete(desk, 0, 1, False)[0]
    assert "There is no row 3 any more" in one_example.save(desk, 3, 1, False, "a", "b", "", "")[0]


def test_what_was_written_in_the_form_outlives_a_click_on_another_row(desk: Desk) -> None:
    desk.drafts.replace_rows([{"prompt": f"{i}?", "demonstration": f"It is {i}."} for i in (1, 2, 3)], "mine")
    _, _, held, *form = one_example.turn_to(desk, 1, None, "", "", "", "")
    assert form == [1, "1?", "It is 1.", "", ""]
    # Nothing was changed: nothing is said.
    said, back, held, *form = one_example.turn_to(desk, 2, held, *form[1:])
    assert said == gr.skip() and form == [2, "2?", "It is 2.", "", ""]
    written = ["2?", "It is two, of course.", "two", ""]
    _, _, again, *form = one_example.turn_to(desk, 2, held, *written)
    assert (again, form) == (held, [2, *written]), "another cell of the same row"
    said, back, held, *form = one_example.turn_to(desk, 3, held, *written)
    assert "What you wrote for row 2 is not saved; it was put aside." in said and back["visible"]
    assert form == [3, "3?", "It is 3.", "", ""]
    desk.drafts.delete(0)  # and row 2 is now row 1
    said, back, held, *form = one_example.bring_back(desk, held, *form[1:])
    assert form == [1, *written] and "Save row 1, or add it" in said and not back["visible"]
    held = one_example.save(desk, 1, 1, False, *written)[-1]
    assert desk.drafts.rows[0] == {"prompt": "2?", "demonstration": "It is two, of course.", "answer": "two"}
    said, *_ = one_example.turn_to(desk, 2, held, *written)
    assert said == gr.skip(), "it is saved"


def test_what_was_written_for_a_row_that_is_gone_comes_back_as_a_new_one(desk: Desk, tmp_path: Path) -> None:
    desk.drafts.replace_rows([{"prompt": "1?", "demonstration": "It is 1."}], "mine")
    held = one_example.turn_to(desk, 1, None, "", "", "", "")[2]
    one_example.turn_to(desk, 0, held, "1?", "One.", "", "")
    desk.drafts.delete(0)
    restarted = Desk.at(tmp_path, desk.worker)
    said, back, held, *form = one_example.bring_back(restarted, None, "", "New.", "", "")
    assert form == [0, "1?", "One.", "", ""] and "Add it as a new row." in said
    assert back["visible"], "what stood in the form of the page that was loaded anew was put aside in turn"
    assert one_example.bring_back(restarted, held, *form[1:])[3:] == [0, "", "New.", "", ""]
