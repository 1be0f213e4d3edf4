"""Examples without right answers, as those of a tone or a style are: nothing is marked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.desks import desk_at_rest
from tests.fake_run import measure
from tests.inside import LIMIT, Inside
from workbench.app import check, sittings, watching
from workbench.app.desk import Desk
from workbench.demonstrations import Demonstration
from workbench.events import Checked, Evaluated, RunStarted
from workbench.runs import open_run
from workbench.views import skill_and_retention
from workbench.views.columns import change


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at_rest(tmp_path) as made:
        yield made


@pytest.fixture
def plain(rows: list[Demonstration]) -> list[dict[str, Any]]:
    """Rows without an answer."""
    return [{name: value for name, value in row.to_dict().items() if name != "answer"} for row in rows]


SETTINGS = {"optim": {"steps": 2, "batch": 4}, "rollout": {"max_new_tokens": 6}}


def row(**known: Any) -> dict[str, Any]:
    rights = dict.fromkeys(("base_right", "teacher_right", "student_right"))
    return {"id": "1", "question": "Q?", "answer": None, "tags": [], "base": "b", "teacher": "t", "student": "s",
            **rights, **known}  # fmt: skip


def test_a_list_without_right_answers_is_not_marked() -> None:
    rows = [row(), row()]
    assert change(rows[0]) == "not marked"
    assert sittings.chosen(rows, "wrong") == [] and sittings.chosen(rows, "changed") == []
    assert sittings.table(rows, "held-out")[0] == ["not marked", "Q?", "", "b", "t", "s"]
    said = sittings.summary(rows, "held-out")
    assert said.startswith("None of these 2 test questions has a right answer") and "0 right" not in said
    some = [*rows, row(answer="A", base_right=False, teacher_right=True, student_right=True)]
    assert "Of 1 test questions" in sittings.summary(some, "held-out")
    assert "It learned 1 and lost 0. 2 others have no right answer" in sittings.summary(some, "held-out")


def test_a_check_shows_a_few_answers(inside: Inside, desk: Desk, plain: list[dict[str, Any]]) -> None:
    found = inside.call("check", rows=plain, settings=SETTINGS, n=50).result(LIMIT)
    assert found["base"] is None and found["teacher"] is None and found["verdict"] == "weak"
    assert len(found["rows"]) == 8 and {line["base_right"] for line in found["rows"]} == {None}
    desk.drafts.replace_rows(plain, "tone")
    desk.drafts.set_check({**found, "model": "pocket"})
    line = check.table(desk)["data"][0]
    assert line[1] == "" and "right" not in line[2] and "wrong" not in line[3]
    assert "Read some answers below" in check.verdict_html(desk)
    assert "which questions were missed" not in check.verdict_html(desk)
    assert check.meters_html(desk).count("cannot be measured") == 4  # seen, and read out
    assert "not measured yet" not in check.meters_html(desk)


def test_a_run_says_how_many_are_kept_back_and_that_none_can_be_marked(
    inside: Inside, tmp_path: Path, plain: list[dict[str, Any]]
) -> None:
    inside.do("teach", name="tone", rows=plain, settings=SETTINGS)
    run = open_run("tone", tmp_path / "runs")
    events = run.log.read()
    started = next(event for event in events if isinstance(event, RunStarted))
    assert started.held_out == len(run.rows("held-out")) > 0
    assert f"{started.held_out} are kept back for the test, none with a right answer" in watching._about(events)
    html = skill_and_retention(events)
    assert "cannot be measured" in html and "None of these questions has a right answer" in html


def test_what_can_be_measured_is_said_to_be() -> None:
    started = RunStarted("r", "sdft", "pocket", 2, 8, 4, 0, 1)
    checked = Checked(measure(0, 4), measure(4, 4), measure(1, 1), "ready", "Good.")
    events = [started, checked, Evaluated(1, measure(2, 4), measure(1, 1), 0.1)]
    assert "none with a right answer" not in watching._about([*events])
    assert "cannot be measured" not in skill_and_retention(events)
    assert "not measured yet" in skill_and_retention([started])
