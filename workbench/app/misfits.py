"""Which rows the loaded model cannot read whole: they are marked as wrong once the worker has counted their tokens.

What is not counted (no model is loaded yet, the worker is busy) counts as good, and is refused when it is to be checked
or taught. No Gradio here.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable
from typing import Any

from workbench.app.desk import Desk
from workbench.app.drafts import written
from workbench.app.history import Row
from workbench.demonstrations.lenient import problem_of, row_from
from workbench.errors import WorkbenchError
from workbench.worker import Call

_PATIENCE = 1.0
"""Seconds that somebody waits for the count; a few hundred rows take the worker a tenth of that, when it is idle."""

_DEPENDS = ("teacher", "rollout")
"""The groups of settings that say how long a prompt is, and how much room its answer needs."""


class _Counted:
    """What is known of the rows, for one model and one choice of settings."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.of = ""
        self.said: dict[str, str] = {}  # what is wrong with each row that was counted; empty: nothing
        self.asked: tuple[list[str], Call] | None = None
        self.seen: tuple[Row, ...] | None = None  # the rows when they were last looked through


def count(desk: Desk, patience: float = _PATIENCE) -> None:
    """Have the worker count the rows that it has not counted yet, and mark those that do not fit.

    Args:
        patience: most seconds to wait for it. What it finds afterwards is taken in by the next call.
    """
    counted: _Counted = desk.tasks.setdefault("misfits", _Counted())
    status = desk.worker.status
    if not status.alive or status.model is None or status.state == "loading":
        return
    if not counted.lock.acquire(blocking=patience > 0):
        return  # somebody waits for the count, and a poll must not
    try:
        settings = {group: values for group, values in desk.drafts.settings.items() if group in _DEPENDS}
        of = json.dumps([status.model, status.restarts, settings], sort_keys=True)
        if of != counted.of:
            counted.of, counted.said, counted.asked, counted.seen = of, {}, None, None
        rows = desk.drafts.rows
        if counted.seen is rows and counted.asked is None:
            return  # as at nearly every poll
        with contextlib.suppress(WorkbenchError, TimeoutError):
            _take_in(counted, patience)
            if counted.seen is not rows:
                counted.seen = rows
                if new := _not_counted(rows, counted):
                    call = desk.worker.call("fit", rows=list(new.values()), settings=settings)
                    counted.asked = list(new), call
                    _take_in(counted, patience)
        desk.drafts.set_misfits({row: said for row, said in counted.said.items() if said})
    finally:
        counted.lock.release()


def _take_in(counted: _Counted, patience: float) -> None:
    """Wait for what was asked. Raises TimeoutError, and WorkbenchError where nothing will come of it."""
    if counted.asked is None:
        return
    asked, call = counted.asked
    try:
        misfits = call.result(patience)["misfits"]
    except WorkbenchError:
        counted.asked = None
        raise
    counted.asked = None
    counted.said |= dict.fromkeys(asked, "") | {asked[int(place)]: str(said) for place, said in misfits.items()}


def _not_counted(rows: Iterable[Row], counted: _Counted) -> dict[str, dict[str, Any]]:
    """The rows that could be used but for their length, by their text."""
    new = {written(row): row for row in rows}
    good = {text: row for text, row in new.items() if text not in counted.said and not problem_of(dict(row))}
    return {text: row_from(dict(row)).to_dict() for text, row in good.items()}
