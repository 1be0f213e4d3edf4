"""What is done with a run on the page Runs where not everything about it is known."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from tests.fake_run import finished
from tests.test_app_runs import a_zip, desk, harmless  # noqa: F401
from tests.waiting import until
from workbench.app import receipts, runs, shelving
from workbench.app.desk import Cursor, Desk
from workbench.demonstrations import Demonstration


def test_the_settings_of_an_adapter_from_elsewhere_are_said_to_be_unknown(
    desk: Desk,  # noqa: F811
    tmp_path: Path,
) -> None:
    until(lambda: desk.worker.status.state == "idle")
    adapter = a_zip(
        tmp_path / "theirs.zip",
        {"adapter_config.json": "{}", "adapter_model.safetensors": struct.pack("<Q", 2) + b"{}"},
    )
    assert "theirs was imported" in runs.press_import(desk, str(adapter), {})[0]
    said, *_ = runs.press(desk, runs._same, partial(shelving.settings_said, desk), {}, "theirs")
    assert "how it was taught is not known" in said


def test_a_run_on_another_says_whose_knowledge_it_kept(
    desk: Desk,  # noqa: F811
    rows: list[Demonstration],
) -> None:
    finished(desk.runs, "three", rows, on="two")
    html = harmless(shelving.table_html(desk)).words
    assert html.count("since two") == 1
    compared = shelving.compare(desk, "one", "three")
    assert "90% of what two had left" in compared and "None" not in compared
    assert "had left" not in shelving.compare(desk, "one", "two")


def test_a_comparison_in_view_is_always_of_the_runs_that_are_chosen(
    desk: Desk,  # noqa: F811
    rows: list[Demonstration],
) -> None:
    finished(desk.runs, "three", rows, lr=3e-3)
    cursor: dict[str, Any] = {}
    assert runs.follow(desk, cursor, "one", "two") == gr.skip(), "nothing was compared yet"
    runs.poll(desk, cursor)
    assert "Skill, two" in runs.press_compare(desk, cursor, "one", "two")
    assert runs.follow(desk, cursor, "one", "two") == gr.skip()
    assert "Skill, three" in (drawn := runs.follow(desk, cursor, "one", "three")) and "Skill, two" not in drawn
    shelving.note(desk, "two", "changes the list")
    assert "Skill, three" in runs.poll(desk, cursor)[-1]
    shelving.rename(desk, "three", "third")
    assert runs.poll(desk, cursor)[-1] == "", "it has gone"
    assert runs.follow(desk, cursor, "one", "two") == gr.skip()


def test_what_is_being_written_is_not_overwritten_when_the_same_choice_is_told_of_again(
    desk: Desk,  # noqa: F811
) -> None:
    cursor: Cursor = {}
    assert runs.note_box(desk, cursor, "one")["label"] == "Note on one"
    assert "label" not in runs.note_box(desk, cursor, "one") and "value" not in runs.note_box(desk, cursor, "one")
    assert runs.note_box(desk, cursor, "two")["label"] == "Note on two"
    assert runs.note_box(desk, cursor, None)["label"] == "Note"
    assert runs.note_box(desk, cursor, "one")["label"] == "Note on one"


def test_a_choice_that_a_poll_under_way_has_overwritten_is_shown_again(
    desk: Desk,  # noqa: F811
) -> None:
    desk.drafts.choose(run="two")
    cursor: Cursor = {}
    assert runs.poll(desk, cursor)[1]["value"] == "two"
    runs.choose("run", cursor, "one")  # before that answer was there
    assert runs.poll(desk, cursor)[1]["value"] == "one"
    assert "value" not in runs.poll(desk, cursor)[1]


def test_what_was_pressed_is_shown_again_though_a_poll_from_before_is_answered_last(
    desk: Desk,  # noqa: F811
) -> None:
    desk.drafts.choose(run="two")
    cursor: Cursor = {}
    number = receipts.begin(cursor, 0)
    assert runs.poll(desk, cursor)[1]["value"] == "two"
    assert runs.press(desk, shelving.delete, "{} is gone.", cursor, "two")[3]["value"] == "one"
    for _ in range(2):
        number = receipts.begin(cursor, number)
        assert runs.poll(desk, cursor)[1]["value"] == "one"
    receipts.begin(cursor, number)
    assert "value" not in runs.poll(desk, cursor)[1]


def test_what_was_measured_before_the_first_step_is_not_said_of_a_later_one(
    desk: Desk,  # noqa: F811
) -> None:
    log = desk.runs / "one" / "events.jsonl"
    kept = [line for line in log.read_text().splitlines(keepends=True) if '"evaluated"' not in line]
    log.write_text("".join(kept))
    record = next(r for r in shelving.records(desk) if r["run"] == "one")
    assert record["step"] == 10 and record["skill"] is None and record["retention"] is None
