"""What the two ends of the pipe say: one JSON object a line.

to the worker     {"id": 7, "do": "ask", ...arguments}
from the worker   {"id": 7, "reply": "token" | "progress", ...}        any number of times
                  {"id": 7, "reply": "done", "result": {...}}          once, or
                  {"id": 7, "reply": "failed", "problem": ..., "advice": ..., "input": ..., "stopped": ...}
                  {"id": 0, "reply": "status", "state": ..., ...}      unasked, at each change
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from workbench.errors import WorkbenchError

STATES = ("loading", "idle", "checking", "teaching", "stopping", "working")
"""What a worker can be doing."""

LONG = ("load", "check", "teach", "resume", "sit", "export", "import_adapter")
"""Commands of which one is performed at a time."""

SHORT = ("ask", "map", "render", "fit")
"""Commands that are served while a long one goes on, too."""

DOWNLOADING = "Downloading"
"""How the phase begins while a model's files come in: the one part of `load` that `stop` ends."""

LAST = ("done", "failed")
"""The replies after which there is no other."""


class WasStopped(WorkbenchError):
    """Somebody asked for the end of the command before it had finished."""


class WorkerDied(WorkbenchError):
    """The process that owns the model ended before it had answered."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the worker is doing.

    Attributes:
        alive: whether the process is there.
        state: one of `STATES`.
        model: the model in memory; None before the first one is.
        run: the run that is being taught or worked on.
        phase: what is going on, in plain English; empty when nothing is.
        error: what a person should know: the model that could not be loaded, or that the process ended and what to do.
        version: rises by one at each change.
        restarts: how often the process was started again.
    """

    alive: bool = False
    state: str = "loading"
    model: str | None = None
    run: str | None = None
    phase: str = ""
    error: str | None = None
    version: int = 0
    restarts: int = 0


def teaching_seconds(costs: dict[str, Any], steps: int, batch: int, every: int = 50) -> float:
    """How long teaching takes.

    Args:
        costs: of a check: seconds of a `step` of so many answers (`batch`), of `measuring` skill and retention once,
            and of the teacher's answers `before` the first step.
        every: steps between two measurements; there is one before the first step, and one after the last.
    """
    measured = 1 + math.ceil(steps / every)
    return float(costs["before"] + steps * costs["step"] * batch / costs["batch"] + measured * costs["measuring"])


def to_line(values: dict[str, Any]) -> bytes:
    """One line, line break included. Raises ValueError on what JSON cannot say (such as an infinite number)."""
    # ASCII, so that a line separator or half of a surrogate pair inside a text cannot break the line.
    return json.dumps(values, allow_nan=False).encode("ascii") + b"\n"


def from_line(line: bytes | str) -> dict[str, Any]:
    """The inverse of `to_line`. Raises ValueError on anything that is not a JSON object."""
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError(f"a line holds {type(values).__name__}, not an object")
    return values
