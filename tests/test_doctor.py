"""`workbench doctor` says what is there and what is missing, and never fails."""

from __future__ import annotations

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


def test_it_says_what_to_install(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda _: None)
    status, found, _ = call(capsys, "doctor", "--offline")
    assert status == 0 and found["hub"] is None
    assert 'pip install "sdft-workbench[gpu]"' in found["precisions"]["4-bit"]
