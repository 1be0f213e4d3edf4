"""A run that goes back to a checkpoint is measured where it ends, as a run of that many steps is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workbench.demonstrations import Demonstration
from workbench.errors import RunError
from workbench.events import Checked, Evaluated, Event, Measure, RunEnded, Saved, Step
from workbench.models import load
from workbench.runs import Run, checkpoints
from workbench.runs.log import EventWriter
from workbench.runs.session import Request, Session, begin
from workbench.runs.shelf import go_back
from workbench.settings import OptimSettings, RolloutSettings, Settings

SETTINGS = Settings(
    optim=OptimSettings(steps=6, batch=4, lr=1e-2, warmup=0, schedule="constant"),
    rollout=RolloutSettings(max_new_tokens=6),
)


def taught(
    folder: Path, model: Path, rows: list[Demonstration], name: str, steps: int, measured: int, stop: int | None = None
) -> Run:
    """A run of so many steps, saved after every second; measured every so many steps, and stopped after some."""
    settings = replace(SETTINGS, optim=replace(SETTINGS.optim, steps=steps))
    request = Request(name, "sdft", settings, rows[:8], rows[8:], evaluate_every=measured, save_every=2)
    run = begin(request, load(str(model)), folder)
    taken: list[Event] = []
    for event in Session(run).teach(lambda: any(isinstance(e, Step) and e.step == stop for e in taken)):
        taken.append(event)
    return run


def without_times(run: Run) -> list[dict[str, Any]]:
    """What happened, apart from how long it took and what the run is called."""
    return [{k: v for k, v in event.items() if k not in ("seconds", "run")} for event in run.log.dictionaries()]


@pytest.mark.parametrize(("measured", "stop", "step"), [(6, None, 4), (4, None, 4), (2, None, 4), (6, 3, 3), (3, 3, 3)])
def test_it_ends_as_a_run_of_that_many_steps(
    tiny_folder: Path, rows: list[Demonstration], tmp_path: Path, measured: int, stop: int | None, step: int
) -> None:
    short = taught(tmp_path, tiny_folder, rows, "short", step, measured)
    long = taught(tmp_path, tiny_folder, rows, "long", 6, measured, stop)
    before = {file: file.read_bytes() for file in long.path.rglob("*") if file.is_file()}
    back = go_back(long, step)
    assert {file: file.read_bytes() for file in long.path.rglob("*") if file.is_file()} == before
    list(Session(back).teach())
    assert without_times(back) == without_times(short)
    assert [type(event) for event in back.log.read()[-3:]] == [Evaluated, Saved, RunEnded]
    told = [{k: v for k, v in run.summary().items() if k not in ("run", "started")} for run in (back, short)]
    assert told[0] == told[1] and told[0]["state"] == "finished" and told[0]["skill"] is not None


@pytest.mark.parametrize("file", ["state.json", "manifest.json", "state.safetensors"])
def test_a_damaged_checkpoint_stays_a_damaged_one(
    tiny_folder: Path, rows: list[Demonstration], tmp_path: Path, file: str
) -> None:
    run = taught(tmp_path, tiny_folder, rows, "run", 6, 6)
    path = run.checkpoints / "step-000004" / file
    path.write_bytes(path.read_bytes().replace(b"true", b"null") + b" ")
    if file == "state.safetensors":
        assert checkpoints.damage(go_back(run, 4).checkpoints / "step-000004")
        return
    if file == "manifest.json":
        path.write_text("{}")
    with pytest.raises(RunError, match="checkpoint step-000004 cannot be read"):
        go_back(run, 4)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_what_the_base_can_do_is_not_the_skill_of_a_run_that_took_steps(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"method": "sdft", "model": "m", "started": "", "settings": {"optim": {"steps": 2}}}'
    )
    run, half = Run(tmp_path), Measure(0.5, 10, 0.2, 0.8)
    writer = EventWriter(run.log, 0)
    writer.write(Checked(half, half, half, "ready", ""))
    assert run.summary()["skill"] == 0.5
    writer.write(Step(1, 2, 0.5, 1e-3, 1.0, 10, 5.0, {"sample": 0.1}, 1.0, 0.5))
    assert run.summary()["skill"] is None
    writer.write(Evaluated(1, None, None, 1.0))
    assert run.summary()["skill"] is None
    writer.close()
