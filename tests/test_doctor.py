"""`workbench doctor` says what is there and what is missing, and never fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.command import call
from workbench import quantised


def test_it_says_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    status, found, said = call(capsys, "doctor")
    assert status == 0 and found["hub"] is False  # the tests are offline
    assert found["packages"]["torch"] == torch.__version__
    assert set(found["precisions"]) == set(quantised.PRECISIONS) - {"auto"}
    assert found["precisions"]["fp32"] == "yes"
    assert found["memory"]["total"] > found["memory"]["free"] > 0
    assert "What will work" in said


def test_it_says_which_driver_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By a program of the driver's name that answers as the driver's does."""
    asked = tmp_path / "nvidia-smi"
    asked.write_text('#!/bin/sh\n[ "$1" = "--query-gpu=driver_version" ] && echo 580.95.05\n')
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    _, found, said = call(capsys, "doctor", "--offline")
    assert found["driver"] == "580.95.05" and "NVIDIA driver: 580.95.05" in said
    asked.write_text("#!/bin/sh\nexit 9\n")
    assert call(capsys, "doctor", "--offline")[1]["driver"] is None


def test_it_says_what_to_install(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda _: None)
    status, found, _ = call(capsys, "doctor", "--offline")
    assert status == 0 and found["hub"] is None
    assert 'pip install "sdft-workbench[gpu]"' in found["precisions"]["4-bit"]
