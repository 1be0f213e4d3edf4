"""Run folders: what is written, what is found again, and what happens when the disk says no."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import IO

import pytest
import torch
from safetensors import SafetensorError

import workbench.runs.checkpoints as checkpoints
import workbench.runs.folder as folder
from workbench.demonstrations import Demonstration
from workbench.errors import InputError, RunError
from workbench.events import Evaluated, Measure, RunEnded, Saved, Step
from workbench.models import load
from workbench.runs import Run, free_name, list_runs, open_run
from workbench.runs.log import EventLog, EventWriter
from workbench.runs.session import Request, Session, begin, student_at
from workbench.settings import OptimSettings, RolloutSettings, Settings

SETTINGS = Settings(optim=OptimSettings(steps=4, batch=4), rollout=RolloutSettings(max_new_tokens=6))


def make(folder: Path, model: Path, rows: list[Demonstration], name: str = "run") -> Run:
    request = Request(name, "sdft", SETTINGS, rows[:8], rows[8:], evaluate_every=2, save_every=2)
    return begin(request, load(str(model)), folder)


def test_rows_come_back_by_side(tiny_folder: Path, rows: list[Demonstration], tmp_path: Path) -> None:
    run = make(tmp_path, tiny_folder, rows)
    assert run.rows("teaching") == rows[:8] and run.rows("held-out") == rows[8:] and run.rows("keep") == []
    assert Settings.from_dict(run.config["settings"]) == SETTINGS
    assert [r.name for r in list_runs(tmp_path)] == ["run"] and open_run(str(run.path), Path("x")).name == "run"
    assert free_name(tmp_path, "run") == "run-2" and free_name(tmp_path, "a b/../c") == "a-b-.-c"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a..b", "x" * 101, "a\nb"])
def test_unsafe_names_are_refused(name: str, tiny_folder: Path, rows: list[Demonstration], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be a run's name"):
        make(tmp_path / "runs", tiny_folder, rows, name)
    assert not (tmp_path / "runs").exists()


def test_a_second_process_is_kept_out(tiny_folder: Path, rows: list[Demonstration], tmp_path: Path) -> None:
    run = make(tmp_path, tiny_folder, rows)
    events = Session(run).teach()
    next(events)
    assert run.is_busy and run.summary()["state"] == "running"
    with pytest.raises(RunError, match="being taught by another process"):
        next(Session(run).teach())
    events.close()
    assert not run.is_busy and run.summary()["state"] == "stopped"


def test_who_only_looks_keeps_nobody_out(
    tiny_folder: Path, rows: list[Demonstration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, tiny_folder, rows)
    with (run.path / "lock").open("a") as looking:
        assert folder.take(looking, shared=True)
        assert not run.is_busy, "two pages look at once"
        tries = []

        def take(handle: IO[str], shared: bool = False) -> bool:
            tries.append(real(handle, shared))
            looking.close()  # it is done
            return tries[-1]

        real = folder.take
        monkeypatch.setattr(folder, "take", take)
        with run.locked():
            assert tries == [False, True]


def test_closing_a_session_at_any_event_loses_nothing(
    tiny_folder: Path, rows: list[Demonstration], tmp_path: Path
) -> None:
    whole = make(tmp_path, tiny_folder, rows, "whole")
    total = len(list(Session(whole).teach()))
    run = make(tmp_path, tiny_folder, rows, "parts")
    for _ in range(total):
        events = Session(run).teach()
        for _ in range(3):
            next(events, None)
        events.close()
    list(Session(run).teach())
    strip = [
        [{k: v for k, v in e.items() if k not in ("seconds", "run")} for e in r.log.dictionaries()]
        for r in (whole, run)
    ]
    assert strip[0] == strip[1]


def test_a_full_disk_is_said_and_the_last_checkpoint_stays(
    tiny_folder: Path, rows: list[Demonstration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, tiny_folder, rows)
    real, calls = checkpoints.save_file, []

    def full(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(RunError, match="The disk is full.*What was saved before is intact.\n.*workbench resume"):
        list(Session(run).teach())
    assert [p.name for p in run.checkpoints.iterdir()] == ["step-000002"]
    events = run.log.read()
    assert isinstance(events[-1], Evaluated) and not run.is_busy
    list(Session(run).teach())
    assert isinstance(run.log.read()[-1], RunEnded)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("I/O error: No space left on device (os error 28)", "The disk is full"),
        ("I/O error: No such file or directory (os error 2)", "could not be written: .*No such file.*Check the disk"),
        ("Some tensors share memory", "could not be written: .*share memory"),
    ],
)
def test_what_safetensors_says_of_a_disk_is_passed_on(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise SafetensorError(f"Error while serializing: {text}")

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(RunError, match=f"(?s){says}"), folder.clear_disk_errors(tmp_path):
        checkpoints.save(tmp_path, 5, {"a": torch.zeros(2)}, events=9)
    assert list(tmp_path.iterdir()) == []


def test_who_looks_at_a_run_leaves_what_another_process_is_saving(
    tiny_folder: Path, rows: list[Demonstration], tmp_path: Path
) -> None:
    run = make(tmp_path, tiny_folder, rows)
    teaching = Session(run).teach()
    while not isinstance(next(teaching), Saved):
        pass
    saving = run.checkpoints / f".tmp-step-000004-{os.getpid()}"
    saving.mkdir()
    student_at(run)
    with pytest.raises(RunError, match="being taught by another process"):
        next(Session(run).teach())
    assert saving.is_dir()
    teaching.close()
    list(Session(run).teach())
    assert not saving.exists(), "it is left over, and the run's lock was free"


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs a folder that cannot be written"
)
def test_an_unwritable_folder_is_said(tiny_folder: Path, rows: list[Demonstration], tmp_path: Path) -> None:
    # Even root cannot make a folder there.
    with pytest.raises((RunError, InputError), match="written"):
        make(Path("/proc/self/runs"), tiny_folder, rows)


def damage_all(run: Run) -> None:
    for path in run.checkpoints.glob("step-*"):
        (path / "state.json").write_text("{}")


def test_damaged_checkpoints_are_never_a_silent_restart(
    tiny_folder: Path, rows: list[Demonstration], tmp_path: Path
) -> None:
    run = make(tmp_path, tiny_folder, rows)
    events = Session(run).teach()
    for event in events:
        if isinstance(event, Saved):
            break
    events.close()
    damage_all(run)
    with pytest.raises(
        RunError, match=r"No checkpoint .* can be used. The checkpoint of step 2 is damaged \(state.json"
    ):
        Session(run)
    import shutil

    shutil.rmtree(run.checkpoints / "step-000002")
    with pytest.raises(RunError, match="No checkpoint .* can be used"):
        Session(run)


def test_a_checkpoint_is_found_damaged_by_a_single_bit(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, 5, {"a": torch.arange(6.0)}, events=9)
    point = checkpoints.load(tmp_path, 5)
    assert (point.step, point.events, point.settled) == (5, 9, True)
    assert torch.equal(point.tensors()["a"], torch.arange(6.0))
    content = bytearray((path / "state.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "state.safetensors").write_bytes(content)
    with pytest.raises(RunError, match="was changed after it was saved"):
        checkpoints.load(tmp_path, 5)
    with pytest.raises(InputError, match="no checkpoint of step 7.\nThere are checkpoints of steps 5"):
        checkpoints.load(tmp_path, 7)
    checkpoints.save(tmp_path, 5, {"a": torch.zeros(2)}, events=10, settled=False)
    assert checkpoints.load(tmp_path, 5).events == 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000005"]


def step(number: int) -> Step:
    return Step(number, 9, 0.5, 1e-3, 1.0, 10, 5.0, {"sample": 0.1}, 1.0, 0.5)


def test_the_log_numbers_events_and_writes_none_twice(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    writer = EventWriter(log, 0)
    for number in (1, 2, 3):
        writer.write(step(number))
    writer.close()
    with log.path.open("ab") as file:
        file.write(b'{"seq": 4, "event": "st')
    assert [e.step for e in log.read() if isinstance(e, Step)] == [1, 2, 3]
    writer = EventWriter(log, 1)
    for number in (2, 3, 4):
        writer.write(step(number))
    writer.write(Evaluated(4, Measure(0.5, 10, 0.2, 0.8), None, 1.0))
    writer.close()
    assert [values["seq"] for values in log.dictionaries()] == [1, 2, 3, 4, 5]
    assert log.read(after=3) == [step(4), Evaluated(4, Measure(0.5, 10, 0.2, 0.8), None, 1.0)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("torn", [b"", b'{"seq": 3, "ev', b'{"seq": 3, "event": "saved", "step": 3}\r'])
def test_only_a_line_without_an_end_is_cut_off(tmp_path: Path, end: bytes, torn: bytes) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    whole = b"".join(b'{"seq": %d, "event": "saved", "step": %d}' % (n, n) + end for n in (1, 2))
    log.path.write_bytes(whole + torn)
    assert log.recover() == 2 and log.path.read_bytes() == whole
    writer = EventWriter(log, 2)
    writer.write(Saved(3))
    writer.close()
    assert log.read() == [Saved(1), Saved(2), Saved(3)]


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"seq": 1, "event": "saved", "step": 1}) + "\nnonsense\n")
    with pytest.raises(RunError, match="line 2 is not an event"):
        EventLog(path).read()
    path.write_text(json.dumps({"seq": 1, "event": "rained"}) + "\n")
    with pytest.raises(ValueError, match="unknown event 'rained'"):
        EventLog(path).read()
