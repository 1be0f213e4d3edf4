"""What a newcomer does first, with the real pocket model; and what a killed worker or server leaves."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.pages.served import WAIT, Served, Visit
from tests.waiting import until
from workbench.events import Step
from workbench.runs import open_run

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def served(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app with the real worker."""
    with Served(tmp_path_factory.mktemp("pocket") / "runs") as made:
        yield made


def teach(visit: Visit, steps: int, name: str = "") -> None:
    """Start teaching for these many steps."""
    visit.tab("Teach")
    visit.start(steps, name)


def test_the_five_clicks(visit: Visit) -> None:
    visit.use_set()
    visit.tab("Check")
    visit.press("Check the teacher")
    visit.says("#verdict", "Good to teach.")
    teach(visit, 4)
    visit.says("#status", "Teaching zorbic")
    visit.says("#teach-state", "Finished after 4 steps.")
    for meter in ("#skill", "#retention"):
        visit.says(meter, "%")
    expect(visit.at("#token-map .tk").first).to_be_attached(timeout=WAIT)
    visit.tab("Compare")
    expect(visit.page.get_by_label("Student of run")).to_have_value("zorbic", timeout=WAIT)
    visit.press("Ask all three")
    expect(visit.at("#question textarea")).to_have_value("Translate hot cloud into Zorbic.", timeout=WAIT)
    for role in ("base", "teacher", "student"):
        visit.says(f"#answer-{role} .wb-note", "token")


def test_a_killed_worker_is_told_of_and_its_run_goes_on(visit: Visit, served: Served) -> None:
    visit.use_set()
    teach(visit, 12, "killed")
    visit.says("#teach-state", "of 12")
    os.kill(served.worker_pid(), signal.SIGKILL)
    visit.says("#status", "was killed (signal 9")
    visit.says("#status", "It was teaching run killed")
    visit.says("#status", "Resume goes on from the run's last checkpoint")
    expect(visit.button("Resume")).to_be_enabled(timeout=WAIT)
    visit.press("Resume")
    visit.says("#teach-state", "Finished after 12 steps.")
    visit.says("#status", "Ready.")
    until(lambda: open_run("killed", served.runs).summary()["state"] == "finished")


def test_a_run_outlives_a_killed_server(browser: Browser, tmp_path: Path) -> None:
    steps = 10
    kept = tmp_path / "runs" / "orphan" / "events.jsonl"
    with Served(tmp_path / "runs") as first:
        visit = Visit.to(browser, first.address)
        visit.use_set()
        teach(visit, steps, "orphan")
        visit.says("#teach-state", re.compile(rf"Step [1-9]\d* of {steps}"))
        first.process.kill()
        first.process.wait()
        visit.context.close()
    with Served(tmp_path / "runs") as second:
        visit = Visit.to(browser, second.address)
        visit.says("#steps", "140 teach, 60 kept back")
        visit.says("#steps", re.compile(rf"orphan can be resumed, step \d+ of {steps}"))
        visit.tab("Teach")
        # The worker ends its step and saves when its server is gone; until then another process teaches the run.
        visit.says("#teach-state", re.compile(rf"Stopped at step \d+ of {steps}; the state is kept"))
        before = kept.read_bytes()
        visit.press("Resume")
        visit.says("#teach-state", f"Finished after {steps} steps.")
        visit.close()
        run = open_run("orphan", tmp_path / "runs")
        until(lambda: run.summary()["state"] == "finished")
        assert [event.step for event in run.log.read() if isinstance(event, Step)] == list(range(1, steps + 1))
        assert kept.read_bytes().startswith(before), "a step was taken twice"
