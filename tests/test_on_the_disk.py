"""What is said to be saved is on the disk: files before the folder with them has its name, both before it is said."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.on_disk import Done, watch
from workbench.demonstrations import Demonstration
from workbench.errors import RunError
from workbench.events import RunEnded, Saved, Step
from workbench.execution import Execution
from workbench.models import load
from workbench.runs import checkpoints
from workbench.runs.folder import clear_disk_errors
from workbench.runs.log import EventWriter
from workbench.runs.session import Request, Session, begin
from workbench.settings import OptimSettings, RolloutSettings, Settings


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Done:
    return watch(monkeypatch)


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, done: Done) -> None:
    checkpoints.save(tmp_path / "checkpoints", 5, {"a": torch.zeros(2)}, events=9)
    named = done.index(("named", "step-000005"))
    before = [name for what, name in done[:named] if what == "synced"]
    assert {"state.safetensors", "state.json", "manifest.json"} <= set(before)
    assert before[-1].startswith(".tmp-step-000005"), "the folder, once its files are there"
    assert done[named + 1 :] == [("synced", "checkpoints")], "and the name itself"


def test_the_log_is_on_the_disk_before_the_checkpoint_that_counts_its_events(
    tiny_folder: Path, rows: list[Demonstration], tmp_path: Path, done: Done
) -> None:
    settings = Settings(optim=OptimSettings(steps=2, batch=4), rollout=RolloutSettings(max_new_tokens=4))
    request = Request("run", "sdft", settings, rows[:8], rows[8:], save_every=1)
    run = begin(request, load(str(tiny_folder)), tmp_path)
    since = len(done)
    for event in Session(run).teach():
        if isinstance(event, Saved):
            named = done.index(("named", f"step-{event.step:06d}"))
            assert ("synced", "events.jsonl") in done[since:named]
            since = len(done)
        if isinstance(event, Saved | RunEnded):
            assert done[-1] == ("synced", "events.jsonl"), "that it is saved is on the disk when it is said"


def test_tensors_are_not_tied_to_the_file_that_they_came_from(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, 5, {"a": torch.arange(100_000.0)}, events=9) / "state.safetensors"
    tensors = checkpoints.load(tmp_path, 5).tensors()
    with path.open("r+b") as file:  # in place, as a copy from a backup may do it
        file.seek(-400_000, os.SEEK_END)
        file.write(b"\0" * 400_000)
    assert torch.equal(tensors["a"], torch.arange(100_000.0))


def test_a_damaged_checkpoint_is_no_new_beginning_though_the_log_does_not_know_of_it(tmp_path: Path) -> None:
    """The process died between publishing the first checkpoint and noting it, and the file was damaged since."""
    assert checkpoints.latest(tmp_path, promised=False) == (None, [])
    (checkpoints.save(tmp_path, 5, {"a": torch.zeros(2)}, events=9) / "state.json").write_text("{}")
    with pytest.raises(RunError, match="step 5 is damaged"):
        checkpoints.latest(tmp_path, promised=False)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_disk_that_may_not_be_written_asks_for_the_right_to(code: int, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Give yourself the right"), clear_disk_errors(tmp_path):
        raise OSError(code, os.strerror(code))


def test_memory_that_ran_out_after_the_checkpoint_is_not_heeded_before_it_runs_out_again(
    tiny_folder: Path, rows: list[Demonstration], tmp_path: Path
) -> None:
    """A resumed run rounds as the first part did: the step in which memory ran out is still to be taken."""
    settings = Settings(optim=OptimSettings(steps=4, batch=4), rollout=RolloutSettings(max_new_tokens=4))
    run = begin(Request("run", "sdft", settings, rows[:8], rows[8:], save_every=2), load(str(tiny_folder)), tmp_path)
    teaching = Session(run).teach()
    step = next(event for event in teaching if isinstance(event, Step))
    while not isinstance(next(teaching), Saved):
        pass
    teaching.close()
    planned = Execution.from_dict(run.config["execution"])
    for number, expected in ((3, planned), (2, replace(planned, micro_batch=1, at_once=0))):
        writer = EventWriter(run.log, run.log.recover())
        writer.write(replace(step, step=number, smaller={"micro_batch": 1, "at_once": 0}))
        writer.close()
        assert Session(run)._work() == expected
