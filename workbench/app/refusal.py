"""Why teaching was not begun, shown until what was refused has been put right. No Gradio here."""

from __future__ import annotations

from typing import Any

from workbench.app import teaching
from workbench.app.desk import Cursor, Desk
from workbench.errors import WorkbenchError

_KEY = "refused"  # without a dot: it is no note of what was shown
_NOTE = "teach.mended"
NAME = "teach.name"
"""Under what the draft keeps the name that was typed."""


def keep(desk: Desk, cursor: Cursor, name: str, idle: bool) -> None:
    """Remember that a start was refused.

    Args:
        name: what was typed as the run's name.
        idle: whether the worker had nothing to do.
    """
    desk.drafts.type(NAME, name)
    cursor[_KEY] = _stand(desk, idle)


def forget(cursor: Cursor) -> None:
    """Teaching has begun."""
    cursor.pop(_KEY, None)


def mended(desk: Desk, cursor: Cursor) -> bool:
    """Whether what was refused would not be refused any more, and the page does not know yet."""
    refused = cursor.get(_KEY)
    if refused is None or cursor.get(_NOTE) == refused:
        return False
    idle = desk.worker.status.state == "idle"
    if not idle or _stand(desk, idle) == refused:
        return False
    try:
        teaching.ready(desk, desk.drafts.typed(NAME))
    except WorkbenchError:
        return False
    cursor[_NOTE] = refused
    return True


def _stand(desk: Desk, idle: bool) -> list[Any]:
    """What a refusal depends on."""
    return [desk.drafts.version, desk.drafts.typed(NAME), desk.worker.status.model, idle]
