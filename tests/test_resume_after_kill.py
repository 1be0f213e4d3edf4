"""A run that is killed again and again ends with the same bits and the same events as one that never was."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from workbench.demonstrations import Demonstration
from workbench.models import load
from workbench.runs import Run
from workbench.runs.session import Request, begin
from workbench.settings import OptimSettings, RolloutSettings, Settings, TeacherSettings

KILLS = 24


class Worker:
    """The forking process of kill_worker.py."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.kill_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, run: Run) -> int:
        """Begin to teach; returns the process id."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{run.path}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def status(self) -> int:
        """Wait for the end; returns the exit status, negative for a signal."""
        assert self.process.stdout
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait() == 0


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def make_run(folder: Path, model: Path, rows: list[Demonstration], keep: list[Demonstration], teacher: str) -> Run:
    settings = Settings(
        optim=OptimSettings(steps=40, batch=6, lr=1e-3),
        rollout=RolloutSettings(max_new_tokens=8),
        teacher=TeacherSettings(teacher=teacher, ema_rate=0.1),
    )
    probes = [Demonstration(f"What is {i} plus {i}?", answer="a") for i in range(4)]
    request = Request(
        name="run",
        method="sdft",
        settings=settings,
        teaching=rows[:9],
        held_out=rows[9:],
        keep=keep,
        probes=probes,
        evaluate_every=7,
        save_every=4,
    )
    return begin(request, load(str(model)), folder)


def without_times(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in event.items() if k != "seconds"} for event in run.log.dictionaries()]


def log_size(run: Run) -> int:
    path = run.path / "events.jsonl"
    return path.stat().st_size if path.exists() else 0


def alive(pid: int) -> bool:
    """Whether a forked child still runs (it stays a zombie until its parent has seen the end)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="process states are read from /proc")
@pytest.mark.parametrize("teacher", ["base", "ema"])
def test_killed_at_random_points(
    teacher: str,
    worker: Worker,
    tiny_folder: Path,
    rows: list[Demonstration],
    keep_rows: list[Demonstration],
    tmp_path: Path,
) -> None:
    whole = make_run(tmp_path / "whole", tiny_folder, rows, keep_rows, teacher)
    killed = make_run(tmp_path / "killed", tiny_folder, rows, keep_rows, teacher)
    worker.start(whole)
    assert worker.status() == 0
    total = log_size(whole)
    r = random.Random(teacher)
    kills = KILLS // 2
    for number in range(kills):
        pid = worker.start(killed)
        # Kill once the log has grown past a random place, mostly a little further than the time before; the log's
        # growth is a random moment of a step, and a checkpoint or a measurement may be under way. The last place leaves
        # some steps to go, however late this process comes to see it.
        target = total * number // (kills + 1) + r.randrange(1, max(2, total // (kills + 1)))
        spins = r.randrange(200_000)
        while log_size(killed) < target and alive(pid):
            pass
        for _ in range(spins):
            pass
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
            assert worker.status() == -signal.SIGKILL
        else:
            assert worker.status() == 0
            pytest.fail(f"the run ended before kill {number + 1}")
    worker.start(killed)
    assert worker.status() == 0
    assert without_times(killed) == without_times(whole)
    one, two = (load_file(run.adapter / "adapter_model.safetensors") for run in (whole, killed))
    assert one.keys() == two.keys() and max(float(t.abs().max()) for t in one.values()) > 0
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_killed_between_a_checkpoint_and_its_event(
    worker: Worker, tiny_folder: Path, rows: list[Demonstration], tmp_path: Path
) -> None:
    whole = make_run(tmp_path / "whole", tiny_folder, rows, [], "base")
    worker.start(whole)
    assert worker.status() == 0
    cut = Run(tmp_path / "cut")
    shutil.copytree(whole.path, cut.path)
    shutil.rmtree(cut.adapter)
    lines = (cut.path / "events.jsonl").read_bytes().splitlines(keepends=True)
    saved = next(i for i, line in enumerate(lines) if b'"event": "saved", "step": 20' in line)
    (cut.path / "events.jsonl").write_bytes(b"".join(lines[:saved]))
    for step in (24, 28, 32, 36, 40):
        shutil.rmtree(cut.checkpoints / f"step-{step:06d}")
    worker.start(cut)
    assert worker.status() == 0
    assert without_times(cut) == without_times(whole)


def test_a_torn_line_and_a_torn_checkpoint_are_passed_over(
    worker: Worker, tiny_folder: Path, rows: list[Demonstration], tmp_path: Path
) -> None:
    whole = make_run(tmp_path / "whole", tiny_folder, rows, [], "base")
    worker.start(whole)
    assert worker.status() == 0
    torn = Run(tmp_path / "torn")
    shutil.copytree(whole.path, torn.path)
    shutil.rmtree(torn.adapter)
    lines = (torn.path / "events.jsonl").read_bytes().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if b'"step": 21,' in line)
    (torn.path / "events.jsonl").write_bytes(b"".join(lines[:cut]) + lines[cut][:100])
    for step in (24, 28, 32, 36, 40):
        shutil.rmtree(torn.checkpoints / f"step-{step:06d}")
    damaged = torn.checkpoints / "step-000020" / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    half = torn.checkpoints / ".tmp-step-000024-1"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    worker.start(torn)
    assert worker.status() == 0
    assert not half.exists()
    assert without_times(torn) == without_times(whole)
    one, two = (load_file(run.adapter / "adapter_model.safetensors") for run in (whole, torn))
    assert all(torch.equal(one[name], two[name]) for name in one)
