"""What pages share: it is made once for each state of the world, and anew for the next state."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from tests.fake_run import sample_of
from tests.test_app_server import desk_at, write_run
from tests.test_views import a_run
from workbench.app import desk as desk_module
from workbench.app import status, teaching, watching
from workbench.app.desk import Desk
from workbench.app.sharing import Made
from workbench.app.skipping import PAUSE, Pages
from workbench.events import Step
from workbench.runs.log import EventWriter
from workbench.runs.shelf import rename
from workbench.worker.protocol import Status

STEPS = 40


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk with a run of which two steps are taken, its worker silent."""
    made = desk_at(tmp_path / "runs")
    begin(made)
    made.drafts.choose(run="r")
    hear(made, state="teaching", model="pocket", run="r", phase="Teaching")
    return made


def begin(desk: Desk) -> None:
    """The run `r` and its first two steps."""
    add(desk, "r" if write_run(desk.runs, "r", STEPS) else "", 0, 2)


def add(desk: Desk, name: str, after: int, upto: int) -> None:
    """Write steps of a run, with what comes before the first and between them."""
    first = len(a_run(after, STEPS, 10)) if after else 0
    writer = EventWriter(desk.run(name).log, first)
    for event in a_run(upto, STEPS, 10)[first:]:
        if isinstance(event, Step):
            event = replace(event, samples=(sample_of("1", "How?", "So it is."),))
        writer.write(event)
    writer.close()


def hear(desk: Desk, **said: Any) -> None:
    """What the worker says."""
    now = desk.worker.status
    desk.worker._status = replace(now, alive=True, version=now.version + 1, **said)


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """Lets a function go on as before; the list has an entry for each call."""
    calls: list[Any] = []
    real: Callable[..., Any] = getattr(owner, name)

    def call(*values: Any, **named: Any) -> Any:
        calls.append(values)
        return real(*values, **named)

    monkeypatch.setattr(owner, name, call)
    return calls


def polled(desk: Desk, cursor: dict[str, Any]) -> list[Any]:
    return [*status.poll(desk, cursor, None), *watching.poll(desk, cursor)]


def test_ten_viewers_have_one_page_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        counted(monkeypatch, owner, name)
        for owner, name in (
            (status, "sentence"),
            (status, "steps"),
            (watching, "token_map"),
            (watching, "answers_of"),
            (watching, "skill_and_retention"),
            (watching, "skill_chart"),
        )
    ]
    cursors: list[dict[str, Any]] = [{} for _ in range(10)]
    first = [polled(desk, cursor) for cursor in cursors]
    assert all(shown == first[0] for shown in first)
    assert [len(calls) for calls in made] == [1] * 6
    add(desk, "r", 2, 3)
    hear(desk, phase="Saving")
    second = [polled(desk, cursor) for cursor in cursors]
    assert all(shown == second[0] for shown in second) and "Step 3 of 40" in second[0][3]
    assert [len(calls) for calls in made] == [2, 2, 2, 2, 1, 1]


def test_the_log_is_opened_once_for_each_growth(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = counted(monkeypatch, desk_module._Log, "_read_on")
    looked = counted(monkeypatch, desk_module, "open_run")
    for _ in range(3):
        polled(desk, {})
    # Once for the events, once to fetch the answer of the step in view, and the folder once more for what is right.
    assert (len(opened), len(looked)) == (2, 3)
    assert desk.events("r") is desk.events("r")
    add(desk, "r", 2, 4)
    assert watching.step_of(desk.events("r")) == 4 and len(opened) == 3


def change_draft(desk: Desk) -> None:
    desk.drafts.replace_rows([{"prompt": f"a{i}", "demonstration": "b"} for i in range(4)], "other")


def change_notice(desk: Desk) -> None:
    desk.drafts.notice = "Half of it was lost."


def change_log(desk: Desk) -> None:
    add(desk, "r", 2, 25)


def change_run(desk: Desk) -> None:
    shutil.rmtree(desk.runs / "r")
    write_run(desk.runs, "r", STEPS)


def change_limit(desk: Desk) -> None:
    add(desk, "r", 2, 30)
    polled(desk, {})
    desk.drafts.type("teach.limit", "90")


@pytest.mark.parametrize(
    "change",
    [
        change_draft,
        change_notice,
        change_log,
        change_run,
        change_limit,
        lambda desk: hear(desk, phase="Saving"),
        lambda desk: hear(desk, state="idle", run=None, phase=""),
        lambda desk: desk.drafts.choose(run=None),
        lambda desk: desk.drafts.choose(run="gone"),
        lambda desk: desk.drafts.set_check({"verdict": "weak"}),
    ],
)
def test_whatever_changes_is_shown_as_if_nothing_were_kept(desk: Desk, change: Callable[[Desk], None]) -> None:
    before = polled(desk, {})
    change(desk)
    fresh = Desk(desk.runs, desk.worker, desk.drafts)
    after = polled(desk, {})
    assert after == polled(fresh, {})
    assert after != before


def test_a_viewer_of_another_step_gets_that_one(desk: Desk) -> None:
    newest, earlier = polled(desk, {}), polled(desk, {"chosen.teach.step": 1})
    assert "answer at step 2" in newest[10] and "answer at step 1" in earlier[10]


def test_runs_that_come_go_and_are_renamed_are_seen_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = counted(monkeypatch, teaching, "list_runs")
    for name in ("a", "b", "c"):
        write_run(desk.runs, name, 3)
        assert name in teaching.run_names(desk)
    rename(desk.run("a"), "d")
    assert set(teaching.run_names(desk)) == {"b", "c", "d", "r"}
    shutil.rmtree(desk.runs / "b")
    assert set(teaching.run_names(desk)) == {"c", "d", "r"}
    assert len(listed) == 5
    os.utime(desk.runs, (1e9, 1e9))  # it has not changed for long
    teaching.run_names(desk).clear()
    assert set(teaching.run_names(desk)) == {"c", "d", "r"} and len(listed) == 6
    shutil.rmtree(desk.runs / "c")
    assert set(teaching.run_names(desk)) == {"d", "r"}
    shutil.rmtree(desk.runs)
    assert teaching.run_names(desk) == []


def test_pages_that_ask_at_once_wait_for_the_one_that_makes_it() -> None:
    made, calls, begun, go = Made(), [], threading.Event(), threading.Event()

    def make() -> str:
        calls.append(1)
        begun.set()
        go.wait(10)
        return "it"

    given: list[str] = []
    threads = [threading.Thread(target=lambda: given.append(made.once("p", 1, make))) for _ in range(5)]
    for thread in threads:
        thread.start()
    begun.wait(10)
    go.set()
    for thread in threads:
        thread.join(10)
    assert given == ["it"] * 5 and len(calls) == 1
    assert [made.once("p", None, lambda n=n: n) for n in (1, 2)] == [1, 2]  # type: ignore[misc]


def test_what_is_kept_stays_small() -> None:
    made = Made()
    for state in range(1000):
        made.once("p", state, lambda: "x")
    assert len(made._made) == 64 and made.once("p", 999, lambda: "new") == "x"


def test_stopping_what_is_no_run_is_said_without_a_run(desk: Desk) -> None:
    desk.worker._status = Status(alive=True, state="stopping", phase="Stopping", model="pocket")
    assert status.sentence(desk) == "Stopping."
    assert "None" not in status.steps_html(desk)


@pytest.mark.parametrize("kind", [Pages, gr.Blocks])
def test_what_is_skipped_is_told_as_gradio_tells_it_and_costs_nothing(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [gr.skip(), "new", gr.update(value="", visible=False), gr.skip(), {"a": 1}]
    with kind() as blocks:
        outputs = [gr.Radio(["old"]), gr.Markdown("old"), gr.Textbox("old"), gr.Slider(1, 9), gr.State({})]
        gr.Button("Go").click(lambda: given, None, outputs)
    function = next(iter(blocks.fns.values()))
    made = counted(monkeypatch, gr.Slider, "__init__")
    sent = asyncio.run(blocks.postprocess_data(function, given, SessionState(blocks)))
    assert sent == [gr.skip(), "new", {"value": "", "visible": False, "__type__": "update"}, gr.skip(), None]
    assert bool(made) == (kind is gr.Blocks)


def test_the_queue_of_the_pages_is_looked_into_less_often_than_gradio_would() -> None:
    assert gr.Blocks()._queue.sleep_when_free < Pages()._queue.sleep_when_free == PAUSE <= 0.02
