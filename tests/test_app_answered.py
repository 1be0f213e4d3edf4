"""The last answers on Compare: they outlive a refresh, another tab and a restart, and nobody's own are overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.desks import desk_at_rest
from tests.test_app_compare import run  # noqa: F401
from tests.waiting import until
from workbench.app import answered, asking, compare, entered
from workbench.app.asking import SAME, Form, Shown
from workbench.app.desk import Desk
from workbench.demonstrations import Demonstration
from workbench.runs import Run, shelf


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at_rest(tmp_path) as made:
        yield made


def ask(desk: Desk, text: str, **fields: Any) -> list[Shown]:
    """Ask, and wait until the answers are kept."""
    before = answered.mark(desk.drafts)
    seen = list(asking.ask(desk, Form(text, **fields)))
    until(lambda: answered.mark(desk.drafts) != before)
    return seen


def last(seen: list[Shown], part: str) -> Any:
    return [value for shown in seen if (value := getattr(shown, part)) != SAME][-1]


def test_a_refresh_and_a_restart_show_what_was_shown(desk: Desk, run: Run, rows: list[Demonstration]) -> None:  # noqa: F811
    assert compare.last_answers(desk) == Shown()
    seen = ask(desk, rows[9].question, run=run.name, beside=50)
    desk.drafts.type("compare.question", rows[9].question)
    again = compare.last_answers(Desk.at(desk.runs, desk.worker))
    right = [part in last(seen, role) for role in ("base", "teacher", "student") for part in ("right", "wrong")]
    assert right == [False, True, True, False, False, True] and f"The right answer: {rows[9].answer}" in again.note
    parts = set(Shown._fields) - {"notice", "question"}
    assert {part: getattr(again, part) for part in parts} == {part: last(seen, part) for part in parts}
    assert f"The last answers of run colours, to \u201c{rows[9].question}\u201d." in again.notice
    # The token map, and going on from an answer, are of these answers again.
    assert "The student" in (seen_closely := asking.look(desk, "student", again.asked)[1])
    assert f"Right answer:</span> <bdi>{rows[9].answer}" in seen_closely
    often = [html for _, html in asking.ask_often(desk, Form(rows[9].question, run=run.name)) if isinstance(html, str)]
    assert "1 of 5, right: " in often[-1] and "1 of 5, wrong: Learned." in often[-1]
    shelf.put_away(run)
    assert (
        "There is no run &#x27;colours&#x27; any more. Choose another" in asking.look(desk, "student", again.asked)[0]
    )


def test_the_teachers_field_is_that_of_the_question_that_is_typed(
    desk: Desk,
    run: Run,  # noqa: F811
    rows: list[Demonstration],
) -> None:
    ask(desk, rows[9].question, run=run.name)
    desk.drafts.type("compare.question", "Another one?")
    again = compare.last_answers(desk)
    assert (again.demonstration, again.filled, again.note) == (SAME, SAME, SAME)
    assert "Learned." in again.student and again.question == SAME


def test_a_field_that_was_asked_as_it_stands_says_what_the_answers_say(
    desk: Desk,
    run: Run,  # noqa: F811
    rows: list[Demonstration],
) -> None:
    ask(desk, rows[9].question, run=run.name)
    desk.drafts.type("compare.question", rows[9].question)
    shown = str(rows[9].demonstration)
    entered.keep_shown(desk.drafts, rows[9].question, shown, (rows[9].question, shown))  # clicked into, and left
    assert entered.shown(desk.drafts, run.name) == [SAME] * 3
    entered.keep_shown(desk.drafts, rows[9].question, "Something else.", (rows[9].question, shown))
    assert entered.shown(desk.drafts, run.name)[0] == "Something else."


def test_what_is_right_is_known_of_what_the_pocket_is_said_to_answer(desk: Desk) -> None:
    assert desk.worker.status.model == "pocket"
    assert "wrong" in last(ask(desk, "What is 3 plus 4?"), "base")
    assert "wrong" not in last(ask(desk, "What is 3 plus 5?"), "base")


def test_without_a_run_or_a_second_student_there_are_no_columns_of_theirs(desk: Desk) -> None:
    ask(desk, "Why?")
    again = compare.last_answers(desk)
    assert "There is no student yet" in again.student and again.earlier_column["visible"] is False
    assert list(again.asked.texts) == ["base", "teacher"]


def test_answers_are_kept_though_nobody_waits_for_them(desk: Desk) -> None:
    next(asking.ask(desk, Form("Why?")))  # the page was closed while it was being answered
    until(lambda: answered.kept(desk.drafts))
    assert "I do not know: Why?" in compare.last_answers(desk).base


def test_what_fails_leaves_the_answers_before(desk: Desk) -> None:
    ask(desk, "Why?")
    assert "This question fails" in list(asking.ask(desk, Form("boom")))[-1].notice
    assert "Why?" in compare.last_answers(desk).base
    ask(desk, "And how?")
    assert "And how?" in compare.last_answers(desk).base


def test_another_tab_follows_until_it_asks_itself(desk: Desk) -> None:
    mine: dict[str, Any] = {}
    theirs: dict[str, Any] = {}

    def press(cursor: dict[str, Any], text: str) -> None:
        before = answered.mark(desk.drafts)
        handler = compare.with_form(asking.ask, desk)
        list(handler(cursor, text, "", ("", ""), "", 0, 0, 0, 1, 0, 0, None, []))
        until(lambda: answered.mark(desk.drafts) != before)

    press(mine, "Mine?")
    shown = compare.poll_answers(desk, theirs)
    assert "Mine?" in shown.base and shown.demonstration == SAME
    assert compare.poll_answers(desk, theirs) == Shown()
    missed = compare.poll_answers(desk, mine)  # as after a closed lid
    assert "Mine?" in missed.base and missed.notice == SAME
    press(theirs, "Theirs?")
    assert compare.poll_answers(desk, mine) == Shown()
    press(mine, "Mine again?")
    assert compare.poll_answers(desk, theirs) == Shown()
    assert "Mine again?" in compare.poll_answers(desk, {}).base


def test_who_is_quicker_than_the_list_of_runs_asks_the_one_in_view(desk: Desk, run: Run) -> None:  # noqa: F811
    desk.drafts.choose(run=run.name)
    handler, blank = compare.with_form(asking.ask, desk), ("", ("", ""), "", 0, 0, 0, 1, 0, 0, None, [])
    cursor: dict[str, Any] = {}
    assert "Learned." in last(list(handler(cursor, "Why?", *blank)), "student")
    compare.choose(desk, cursor, "")  # none was chosen
    assert "There is no student yet" in last(list(handler(cursor, "Why?", *blank)), "student")


@pytest.mark.parametrize("held", ["{", "3", '["a"]', '{"messages": []}', "null", '{"messages": [{"role": "user"}]}'])
def test_damaged_ones_are_none(desk: Desk, held: str) -> None:
    desk.drafts.type("compare.answers", held)
    assert compare.last_answers(desk) == Shown()


def test_kept_answers_are_text(desk: Desk) -> None:
    evil = "<img src=x onerror=alert(1)></script>\u202e"
    ask(desk, "Why?")
    held = json.loads(answered.mark(desk.drafts))
    held["messages"][-1]["content"] = evil
    held["answers"]["answers"]["base"][0]["text"] = evil
    desk.drafts.type("compare.answers", json.dumps(held))
    shown = compare.last_answers(desk)
    html = shown.notice + shown.base
    assert "onerror" in html and "<img" not in html and "</script>" not in html and "\u202e" not in html
