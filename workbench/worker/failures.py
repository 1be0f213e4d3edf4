"""Why a command came to nothing, in words for a person."""

from __future__ import annotations

import traceback

from workbench.allocations import ran_out
from workbench.errors import WorkbenchError
from workbench.worker.protocol import WasStopped


def stopped() -> WasStopped:
    """Somebody asked for its end."""
    return WasStopped("It was stopped before it had finished.", "Start it again when you like.")


def in_words(error: Exception) -> WorkbenchError:
    """What to tell a person; what nobody foresaw goes to the log with its trace.

    It holds no frames: a model that was read in part, or a step's activations, can be freed while it is kept.
    """
    if isinstance(error, WorkbenchError):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    traceback.print_exc()
    said = f"{type(error).__name__}: {error}"
    if ran_out(error) or "out of memory" in said.lower():
        return WorkbenchError(
            f"The memory did not suffice ({said.splitlines()[0]}).",
            "Use a smaller batch, a shorter longest answer, or a smaller model; what was saved is intact.",
        )
    return WorkbenchError(
        f"Something that should not happen: {said}",
        "The worker goes on, and what was saved is intact. Try again; if it stays, report it with these words.",
    )
