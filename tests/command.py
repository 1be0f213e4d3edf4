"""Run a command of the command line in this process, as a script would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workbench.cli import main

QUICK = ["--steps", "4", "--batch", "4", "--max-new-tokens", "6", "--evaluate-every", "2", "--save-every", "2"]


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    """Run a command with --json; returns status, the object on standard output, and standard error."""
    capsys.readouterr()
    status = main([*map(str, arguments), "--json"])
    said = capsys.readouterr()
    assert said.out.count("\n") == 1, said.out
    return status, json.loads(said.out), said.err
