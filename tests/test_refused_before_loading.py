"""What is known to be wrong from the flags and the file alone is said before a model is looked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import QUICK, call

NOT_THERE = ["--model", "no-such/model"]
TEMPLATE = "Read this: {demonstration}"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--name", "taken"], "There is a run taken in "),
        (["--name", "../x"], "cannot be a run's name"),
        (["--template", TEMPLATE], "The teacher's template holds {prompt} 0 times"),
        (["--scorer", "best"], "There is no scorer 'best'"),
        (["--scorer", "tool-calls"], "12 of 12 answers can never be matched"),
        (["--scorer", "number"], "12 of 12 answers can never be matched"),
        (["--probes", "ROWS.none"], "There is no file ROWS.none"),
        (["--keep", "ROWS.none"], "There is no file ROWS.none"),
        (["--held-out", "1.5"], "The held-out share is 1.5"),
        (["--micro-batch", "-1"], "--micro-batch is -1"),
        (["--on", "nothing"], "There is no run 'nothing'"),
        (["--runs", "FILE/runs"], "is a file, not a folder of runs"),
        (["--keep", "FILE", "--batch", "1"], "A batch of one prompt has no place for keep rows"),
        (["--model", "pocket", "--revision", "v9"], "pocket is bundled, so it has no revision 'v9'"),
        (["--model", "MODEL", "--revision", "v9"], "is a folder on this disk, so it has no revision 'v9'"),
        (["--method", "sft", "--beside-sft"], "--beside-sft teaches by SFT beside SDFT, and --method is sft"),
        ([], "no-such/model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_teach(
    capsys: pytest.CaptureFixture[str], data: Path, tiny_folder: Path, tmp_path: Path, flags: list[str], says: str
) -> None:
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    told = [flag.replace("FILE", str(data)).replace("MODEL", str(tiny_folder)) for flag in flags]
    status, found, _ = call(capsys, "teach", data, "--runs", tmp_path / "runs", *NOT_THERE, *QUICK, *told)
    assert status == 2 and says in found["error"] and found["advice"]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["taken"]


def test_going_on_from_a_run_whose_adapter_is_damaged(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    earlier = tmp_path / "runs" / "first"
    (earlier / "adapter").mkdir(parents=True)
    (earlier / "config.json").write_text('{"model": "no-such/model"}')
    (earlier / "demonstrations.jsonl").touch()
    (earlier / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    told = ["--runs", tmp_path / "runs", *NOT_THERE, *QUICK, "--on", "first"]
    status, found, _ = call(capsys, "teach", data, *told)
    assert status == 2 and "has no adapter_model.safetensors" in found["error"]
    (earlier / "adapter" / "adapter_model.safetensors").write_bytes(b"half of a file")
    status, found, _ = call(capsys, "teach", data, *told)
    assert status == 2 and "cannot be read" in found["error"]


@pytest.mark.parametrize(
    ("pinned", "says"),
    [
        ("aaaa", "Run first was taught on no-such/model at revision aaaa, and what goes on from it is too"),
        (None, "Run first was taught on no-such/model, and what goes on from it is too; --revision is v9"),
    ],
)
def test_another_revision_than_that_of_the_run_gone_on_from(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path, pinned: str | None, says: str
) -> None:
    earlier = tmp_path / "runs" / "first"
    earlier.mkdir(parents=True)
    (earlier / "config.json").write_text(json.dumps({"model": "no-such/model", "revision": pinned}))
    (earlier / "demonstrations.jsonl").touch()
    told = ["--runs", tmp_path / "runs", *NOT_THERE, *QUICK, "--on", "first"]
    status, found, _ = call(capsys, "teach", data, *told, "--revision", "v9")
    assert status == 2 and says in found["error"] and found["advice"] == "Leave --revision out."
    status, found, _ = call(capsys, "teach", data, *told, *(["--revision", pinned] if pinned else []))
    assert "is not finished" in found["error"], "its own revision may be named"


@pytest.mark.parametrize("flags", [["--method", "sft"], ["--beside-sft"]], ids=" ".join)
def test_sft_on_contexts(capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str]) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("prompt,context\na,one\nb,two\nc,three\n")
    status, found, _ = call(capsys, "teach", path, "--runs", tmp_path / "runs", *NOT_THERE, *flags)
    assert status == 2 and "2 of 2 rows to teach have no demonstration" in found["error"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--template", TEMPLATE], "The teacher's template holds {prompt} 0 times"),
        (["--scorer", "best"], "There is no scorer 'best'"),
        (["--scorer", "tool-calls"], "12 of 12 answers can never be matched"),
        (["--scorer", "number"], "12 of 12 answers can never be matched"),
        ([], "no-such/model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_check(capsys: pytest.CaptureFixture[str], data: Path, flags: list[str], says: str) -> None:
    status, found, _ = call(capsys, "check", data, *NOT_THERE, *flags)
    assert status == 2 and says in found["error"] and found["advice"]
