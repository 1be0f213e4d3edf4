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
from workbench.training.together import Crew

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
import json, sys
from workbench.cli import main
from workbench.training.together import crew
print("process", crew().number, "of", crew().size, flush=True)
for method in ("sdft", "sft"):
    try:
        assert main([*json.loads(sys.argv[1]), "--method", method, "--name", method, "--json"]) == 0
    except SystemExit:
        pass  # the second process says nothing
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch cannot send between processes")
def test_two_processes_take_the_steps_of_one(
    capsys: pytest.CaptureFixture[str], arguments: list[object], tmp_path: Path
) -> None:
    for method in ("sdft", "sft"):
        assert call(capsys, *arguments, "--method", method, "--runs", tmp_path / "one", "--name", method)[0] == 0
    (tmp_path / "driver.py").write_text(DRIVER)
    # Called so, accelerate starts the processes by torchrun, which needs no card; by --cpu it would need MPI.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", str(tmp_path / "driver.py")]
    said = subprocess.run(
        [sys.executable, *launch, json.dumps([*map(str, arguments), "--runs", str(tmp_path / "two")])],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert said.returncode == 0, said.stderr[-3000:]
    assert sorted(line for line in said.stdout.splitlines() if line.startswith("process")) == [
        "process 0 of 2",
        "process 1 of 2",
    ]
    printed = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
    assert [found["method"] for found in printed] == ["sdft", "sft"], "each is printed once"
    for method in ("sdft", "sft"):
        compare(tmp_path / "one" / method, tmp_path / "two" / method)


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


def test_prompts_are_dealt_out_without_a_gap() -> None:
    for size in (1, 2, 3, 5):
        for prompts in range(size, 12):
            shares = [Crew(number, size).share(prompts) for number in range(size)]
            assert [i for share in shares for i in range(prompts)[share]] == list(range(prompts))
            assert all(share.stop > share.start for share in shares)
    with pytest.raises(InputError, match="A step has 2 prompts, and 3 processes"):
        Crew(0, 3).share(2)
