"""A page that did not get an answer is shown the same once more; one that did is not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from workbench.app import receipts, server, watching
from workbench.app.desk import Desk, Viewers
from workbench.worker import Worker


def polled(cursor: dict[str, Any], receipt: int, text: str) -> tuple[int, Any]:
    """One poll of a page that shows a text: the number that goes out, and what is shown."""
    number = receipts.begin(cursor, receipt)
    shown = None if cursor.get("page.text") == text else text
    cursor["page.text"] = text
    return number, shown


def test_what_is_confirmed_is_shown_once() -> None:
    cursor: dict[str, Any] = {}
    assert polled(cursor, 0, "one") == (1, "one")
    assert polled(cursor, 1, "one") == (2, None)
    assert polled(cursor, 2, "two") == (3, "two")
    assert polled(cursor, 3, "two") == (4, None)


def test_an_answer_that_was_lost_is_given_again_until_it_has_come() -> None:
    cursor: dict[str, Any] = {"page.other": "old"}
    polled(cursor, 0, "one")
    assert polled(cursor, 1, "two") == (2, "two")
    assert polled(cursor, 1, "two") == (3, "two"), "the second answer was lost"
    assert polled(cursor, 1, "two") == (4, "two"), "and so was the third"
    assert polled(cursor, 4, "two") == (5, None)
    assert cursor["page.other"] == "old", "what had come before is not shown again"


def test_what_a_click_shows_is_shown_again_as_the_answers_may_arrive_in_any_order() -> None:
    cursor: dict[str, Any] = {}
    polled(cursor, 0, "one")
    number, _ = polled(cursor, 1, "one")
    receipts.clicked(cursor)
    cursor["page.text"] = "clicked"  # by the click, while the poll was under way
    assert polled(cursor, number, "clicked") == (3, "clicked")
    assert polled(cursor, 3, "clicked") == (4, "clicked")
    assert polled(cursor, 4, "clicked") == (5, None)


def test_what_was_chosen_is_never_struck_out() -> None:
    cursor: dict[str, Any] = {"tab": "teach", "chosen.teach.step": 4}
    polled(cursor, 7, "one")
    polled(cursor, 7, "one")
    assert cursor["chosen.teach.step"] == 4 and cursor["tab"] == "teach"


def test_a_part_that_fails_has_shown_nothing() -> None:
    cursor: dict[str, Any] = {"page.text": "old"}

    def broken(seen: dict[str, Any]) -> list[Any]:
        seen["page.text"] = "new"
        raise OSError("the disk")

    with pytest.raises(OSError, match="disk"):
        server._noted(broken, cursor)
    assert "page.text" not in cursor, "so it is shown as soon as it can be"


def test_a_pace_that_a_page_has_not_heard_of_is_told_again() -> None:
    now = 0.0
    viewers = Viewers(lambda: now)
    pages: list[dict[str, Any]] = [{} for _ in range(6)]
    for page in pages:
        viewers.every(page)
    assert [viewers.every(pages[0]) for _ in range(2)] == [2.0, None]
    now = 16.0
    sure = receipts.notes(pages[0])
    assert viewers.every(pages[0]) == 1.0
    receipts.strike(pages[0], sure)
    assert [viewers.every(pages[0]) for _ in range(2)] == [1.0, None]


def test_a_choice_on_teach_is_shown_by_the_next_polls_too(tmp_path: Path) -> None:
    desk = Desk.at(tmp_path / "runs", Worker(tmp_path / "runs", command=[sys.executable, "-c", ""]))
    cursor: dict[str, Any] = {}
    sent = receipts.begin(cursor, 0)
    watching.poll(desk, cursor)
    watching.choose_losses(desk, True, cursor)
    sent = receipts.begin(cursor, sent)
    assert watching.poll(desk, cursor)[11] != gr.skip()
    sent = receipts.begin(cursor, sent)
    assert watching.poll(desk, cursor)[11] != gr.skip()
    receipts.begin(cursor, sent)
    assert all(value == gr.skip() for value in watching.poll(desk, cursor))
