"""The worker gives memory back in time: on a card there may be room for one model, and for one run, only."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.allocations import free_memory
from workbench.errors import InputError, WorkbenchError
from workbench.models import LoadedModel, load
from workbench.runs.session import versions
from workbench.worker import service as services
from workbench.worker.asking import Asker
from workbench.worker.protocol import from_line
from workbench.worker.service import Service


class Taken:
    """Stands for gigabytes on a card."""


@pytest.fixture
def service(tmp_path: Path, tiny_model: LoadedModel) -> Iterator[Service]:
    """A service with a model in memory, whose memory is given back by reference counts and `free_memory` alone."""
    made = Service(tmp_path / "runs", io.BytesIO())
    made._asker = Asker(tiny_model, tmp_path / "runs")
    gc.collect()
    gc.disable()
    yield made
    gc.enable()


def perform(service: Service, do: str, **arguments: Any) -> dict[str, Any]:
    """The last reply to a long command."""
    service._perform({"id": 1, "do": do, **arguments})
    assert isinstance(service._output, io.BytesIO)
    return from_line(service._output.getvalue().splitlines(keepends=True)[-1])


@pytest.mark.parametrize("foreseen", [True, False])
def test_what_was_read_of_a_model_is_let_go_before_the_old_one_is_read_again(
    service: Service, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, foreseen: bool
) -> None:
    partly: list[weakref.ref[Taken]] = []
    in_the_way: list[bool] = []

    def read(name: str, **how: Any) -> LoadedModel:
        if name != "larger":
            in_the_way.extend(ref() is not None for ref in partly)
            return load(name, **how)
        half = Taken()
        partly.append(weakref.ref(half))
        try:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        except torch.OutOfMemoryError as error:
            if foreseen:
                raise InputError("It could not be loaded.", "Take a smaller one.") from error
            raise

    monkeypatch.setattr(services, "load", read)
    said = perform(service, "load", model="larger")
    assert said["reply"] == "failed" and in_the_way == [False]
    assert service._model().loaded.name == str(tiny_folder), "the old one is there again"


@pytest.mark.parametrize("kind", [WorkbenchError, RuntimeError])
def test_what_a_failed_command_had_in_memory_is_let_go(
    service: Service, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    held: list[weakref.ref[Taken]] = []

    def step(do: str, command: dict[str, Any]) -> dict[str, Any]:
        activations = Taken()
        held.append(weakref.ref(activations))
        raise kind("The gradient is not finite.", "Stop.")

    monkeypatch.setattr(service, "_long_command", step)
    still: list[bool] = []
    monkeypatch.setattr(services, "free_memory", lambda: still.extend(ref() is not None for ref in held))
    assert perform(service, "teach")["reply"] == "failed"
    assert still == [False], "before memory is given back, nothing may hold on to it"


def test_an_idle_worker_holds_nothing_of_what_it_did(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Taken]] = []

    def lesson(do: str, command: dict[str, Any]) -> dict[str, Any]:
        activations = Taken()
        activations.self = activations  # type: ignore[attr-defined]  # only a collection finds it
        held.append(weakref.ref(activations))
        return {}

    monkeypatch.setattr(service, "_long_command", lesson)
    assert perform(service, "teach")["reply"] == "done"
    assert held[0]() is None


def test_a_card_that_cannot_give_memory_back_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    free_memory()


def test_a_package_that_is_not_there_is_said_to_be_missing() -> None:
    found = versions("no-such-package")
    assert found["no-such-package"] == "not installed" and found["torch"].startswith("2.")
