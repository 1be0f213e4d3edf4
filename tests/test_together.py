"""A run of two processes, started by `accelerate launch`, is the run of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.command import call
from workbench.demonstrations import Demonstration, write
from workbench.errors import InputError
from workbench.training import together
from workbench.training.together import Crew, GivenUp

SECONDS = 300


@pytest.fixture
def arguments(rows: list[Demonstration], keep_rows: list[Demonstration], tiny_folder: Path, tmp_path: Path) -> Any:
    """Three steps of eight answers to four prompts, of which one is a keep row: it is the second process's."""
    write([*rows, *keep_rows], tmp_path / "rows.jsonl")
    write([Demonstration("What is 1?", answer="e")], tmp_path / "probes.jsonl")
    settings = {
        "model": tiny_folder,
        "probes": tmp_path / "probes.jsonl",
        "steps": 3,
        "batch": 8,
        "rollouts": 2,
        "max-new-tokens": 6,
        "skip-tokens": 1,
        "keep-share": 0.3,
        "evaluate-every": 2,
        "save-every": 2,
    }
    return ["teach", tmp_path / "rows.jsonl", *(part for k, v in settings.items() for part in (f"--{k}", v))]


DRIVER = """
import io, json, os, shutil, signal, sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from workbench.cli import main
from workbench.errors import RunError
from workbench.events import Step
from workbench.runs.log import EventWriter
from workbench.runs.session import Session
from workbench.training.together import crew

arguments, runs = json.loads(sys.argv[1]), Path(sys.argv[2])
said = []

def call(*arguments):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
        status = main([*arguments, "--json"])
    said.append([status, out.getvalue(), errors.getvalue()])

call(*arguments, "--beside-sft", "--name", "sdft", "--runs", str(runs))

# As if it had been killed in its third step.
if crew().first:
    shutil.copytree(runs / "sdft", runs / "cut")
    shutil.rmtree(runs / "cut" / "adapter")
    shutil.rmtree(runs / "cut" / "checkpoints" / "step-000003")
    log = runs / "cut" / "events.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[: 1 + max(i for i, e in enumerate(map(json.loads, lines)) if e.get("step") == 2)]))
crew().told(None)
call("resume", str(runs / "cut"))
call("resume", str(runs / "cut"))

# The first cannot go on: before the steps, and in the second of them.
def broken(*_):
    raise RunError("The check broke.", "Mend it.")

def write(self, event):
    if isinstance(event, Step) and event.step == 2:
        raise RunError("The disk is full.", "Make room.")
    own(self, event)

if crew().first:
    Session._check, check = broken, Session._check
call(*arguments, "--beside-sft", "--name", "no-check", "--runs", str(runs))
if crew().first:
    Session._check, EventWriter.write, own = check, write, EventWriter.write
call(*arguments, "--beside-sft", "--name", "no-room", "--runs", str(runs))

# Ctrl-C: the terminal tells the program that has started both, and that tells them.
def press(self, event):
    own(self, event)
    if isinstance(event, Step) and event.step == 2:
        os.kill(os.getppid(), signal.SIGINT)

if crew().first:
    EventWriter.write = press
long = ["--steps", "100000", "--evaluate-every", "100000", "--save-every", "100000"]
call(*arguments, *long, "--beside-sft", "--name", "stopped", "--runs", str(runs))
(runs.parent / f"process {crew().number} of {crew().size}").write_text(json.dumps(said))
"""


def launch(folder: Path, driver: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in two processes, and see both end."""
    (folder / "driver.py").write_text(driver)
    # Called so, accelerate starts the processes by torchrun, which needs no card; by --cpu it would need MPI.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", str(folder / "driver.py")]
    started = subprocess.Popen(
        [sys.executable, *launch, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    try:
        out, errors = started.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        started.terminate()  # it ends those that it started; killed, it would leave them hanging
        raise AssertionError(f"two processes hang: {started.communicate()[1][-3000:]}") from None
    return subprocess.CompletedProcess(started.args, started.returncode, out, errors)


needs_sending = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch cannot send between processes"
)


@needs_sending
def test_two_processes_take_the_steps_of_one(
    capsys: pytest.CaptureFixture[str], arguments: list[object], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert call(capsys, *arguments, "--beside-sft", "--runs", one, "--name", "sdft")[0] == 0
    done = launch(tmp_path, DRIVER, json.dumps([*map(str, arguments)]), str(two))
    assert done.returncode == 1, done.stderr[-3000:]  # of the Ctrl-C in the end
    # Each writes a file of its own: what two processes print at once runs together.
    first, second = (json.loads((tmp_path / f"process {number} of 2").read_text()) for number in (0, 1))
    assert [status for status, _, _ in first] == [0, 0, 0, 1, 1, 1]
    assert second == [[0, "", ""]] * 6, "the first alone has something to say"
    found = json.loads(first[0][1])
    assert (found["method"], found["beside"]["method"]) == ("sdft", "sft")
    assert found["finished"] and found["beside"]["finished"] and "after SFT" in first[0][2]
    for run, made in (("sdft", "sdft"), ("sdft-sft", "sdft-sft"), ("sdft", "cut")):
        compare(one / run, two / made)
    assert json.loads(first[1][1])["finished"] and "has already reached its last step" in first[2][2]
    for number, words, run in ((3, "The check broke.", "no-check"), (4, "The disk is full.", "no-room")):
        assert json.loads(first[number][1])["error"] == words
        assert not (two / f"{run}-sft").exists(), "what failed is followed by nothing"
    # Stopped, both have ended with the state saved once, and the first says what one process says.
    stopped, (_, out, errors) = two / "stopped", first[5]
    last = json.loads((stopped / "events.jsonl").read_text().splitlines()[-1])["step"]
    assert json.loads(out)["finished"] is False and json.loads(out)["steps"] == last >= 2
    assert [folder.name for folder in (stopped / "checkpoints").iterdir()] == [f"step-{last:06}"]
    assert errors.count("Stopping: the state is being saved") == 1
    assert f"Go on: workbench resume {stopped}" in errors and not (two / "stopped-sft").exists()


def compare(*folders: Path) -> None:
    """Hold two runs' logs and adapters against each other."""
    logs = [[json.loads(line) for line in (f / "events.jsonl").read_text().splitlines()] for f in folders]
    assert [e["seq"] for e in logs[1]] == list(range(1, len(logs[0]) + 1))
    compared = 0
    for one, two in zip(*logs, strict=True):
        assert one["event"] == two["event"]
        for name in ("loss", "gradient_norm", "tokens", "length", "entropy", "agreement", "keep_loss"):
            if one.get(name) is not None:
                assert two[name] == pytest.approx(one[name], rel=1e-5, abs=1e-6), (one["event"], name)
                compared += 1
        if one["event"] == "step":
            assert [s["text"] for s in one.get("samples", [])] == [s["text"] for s in two.get("samples", [])]
            assert [len(s["choices"]) for s in one.get("samples", [])] == [
                len(s["choices"]) for s in two.get("samples", [])
            ]
    assert compared >= 3 * 6
    adapters = [load_file(f / "adapter" / "adapter_model.safetensors") for f in folders]
    for name, weights in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], weights, rtol=1e-5, atol=1e-6)


FULL = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from tests.test_execution import Failing, inject, roles_of
from tests.test_training import BASIC, without_times
from workbench import groups
from workbench.demonstrations import read
from workbench.errors import InputError
from workbench.execution import Execution
from workbench.models import load
from workbench.training import TrainingState, sdft, sft
from workbench.training.together import crew
import pytest

model, rows = load(sys.argv[1], precision="fp32"), read(sys.argv[2]).rows
settings = replace(BASIC, optim=replace(BASIC.optim, batch=8))
found = []

def same(phase, failing, smaller, times, method):
    patch = pytest.MonkeyPatch()
    roles, other = roles_of(model, settings), roles_of(model, settings)
    state, planned = TrainingState.begin(roles, settings), TrainingState.begin(other, settings)
    if crew().number == failing:
        inject(phase, state, patch, at=1, times=times)
    seen = list(method(roles, rows, settings, state=state))
    patch.undo()
    expected = list(method(other, rows, settings, state=planned, should_stop=lambda: planned.step >= 1))
    expected += method(other, rows, settings, state=planned, execution=smaller)
    assert without_times([replace(e, smaller=None) for e in seen]) == without_times(expected)
    ours, theirs = state.tensors(), planned.tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs) and len(theirs) > 0
    found.append([e.smaller for e in seen])

# Of eight answers each process has four.
same("backward", 1, Execution(micro_batch=2), 1, sdft)
same("backward", 0, Execution(micro_batch=1), 2, sft)
same("sample", 1, Execution(at_once=2), 1, sdft)

# What the base says of keep rows is asked for in each process; one that cannot does not leave the other waiting.
patch, roles = pytest.MonkeyPatch(), roles_of(model, settings)
state = TrainingState.begin(roles, settings)
if crew().number == 1:
    patch.setattr(groups, "sample", Failing(groups.sample, state, 0, 99))
try:
    sft(roles, rows, settings, keep=[replace(rows[0], keep=True)], state=state)
except InputError as error:
    found.append(str(error))
patch.undo()

patch, roles = pytest.MonkeyPatch(), roles_of(model, settings)
state = TrainingState.begin(roles, settings)
if crew().number == 1:
    inject("student", state, patch, at=1, times=99)
try:
    found.append(len(list(sdft(roles, rows, settings, state=state))))
except InputError as error:
    found.append(str(error))
Path(sys.argv[3], f"found {crew().number}").write_text(json.dumps([state.step, *found]))
"""


@needs_sending
def test_two_processes_take_a_step_again_if_memory_runs_out_in_one(
    rows: list[Demonstration], tiny_folder: Path, tmp_path: Path
) -> None:
    write(rows, tmp_path / "rows.jsonl")
    said = launch(tmp_path, FULL, str(tiny_folder), str(tmp_path / "rows.jsonl"), str(tmp_path))
    assert said.returncode == 0, said.stderr[-3000:]
    found = [json.loads((tmp_path / f"found {number}").read_text()) for number in (0, 1)]
    for step, backward, sft, sample, *_ in found:
        assert backward == [None, {"micro_batch": 2, "at_once": 0}, None]
        assert sft == [None, {"micro_batch": 1, "at_once": 0}, None]
        assert sample == [None, {"micro_batch": 0, "at_once": 2}, None]
        assert step == 1, "given up at the second step"
    assert "one question at a time (in another process of this run)" in found[0][4]
    assert "one question at a time (CUDA out of memory" in found[1][4]
    assert "one answer at a time (in another process of this run)" in found[0][-1], "the first says it"
    assert "Lower --max-new-tokens" in found[0][-1]
    assert found[1][-1] == 1, "the other ends after the one step that all took"


def test_who_follows_hears_the_end_of_steps_that_all_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([together._STEPS, {"finished": False}])
    monkeypatch.setattr(Crew, "told", lambda self, value: next(said))

    def steps() -> Any:
        raise GivenUp("Memory ran out.", "Lower something.")

    assert Crew(1, 2).follow(steps) == {"finished": False}


def test_prompts_are_dealt_out_without_a_gap() -> None:
    for size in (1, 2, 3, 5):
        for prompts in range(size, 12):
            shares = [Crew(number, size).share(prompts) for number in range(size)]
            assert [i for share in shares for i in range(prompts)[share]] == list(range(prompts))
            assert all(share.stop > share.start for share in shares)
            assert max(share.stop - share.start for share in shares) == Crew(0, size).largest(prompts)
    with pytest.raises(InputError, match="A step has 2 prompts, and 3 processes"):
        Crew(0, 3).share(2)
