"""Whether a page got what it was shown.

A poll gives what has changed since the poll before it, by notes in the cursor of what was shown last. But an answer
can be lost (a lid is closed, a network goes away), and one to a click can be overtaken by one to a poll. What was lost
would never be shown again, as nothing changes any more. So each answer to a poll carries a number, which the page sends
back with its next poll. If that is another number, or somebody clicked meanwhile, the notes that were made since are
struck out, and the poll shows once more what they stood for.
"""

from __future__ import annotations

from typing import Any

from workbench.app.desk import CHOSEN, Cursor

_STATE, _CLICKS = "receipts", "clicks"

LOADED = -1
"""The number that comes with what is loaded, before any poll."""

_AGAIN = 2
"""Polls that show once more what a click has shown: one may be under way, and one may arrive before its answer."""


def begin(cursor: Cursor, receipt: Any) -> int:
    """A poll begins: strike out what the page may not have got.

    Args:
        receipt: the number that the page sends back; 0 from a page that has had none.

    Returns:
        The number that goes out with the answer.
    """
    sent, sure = cursor.get(_STATE, (0, {}))
    clicks = cursor.get(_CLICKS, 0)
    if clicks or receipt != sent:
        strike(cursor, sure)
    cursor[_CLICKS] = max(0, clicks - 1)
    cursor[_STATE] = sent + 1, notes(cursor)
    return int(sent) + 1


def clicked(cursor: Cursor) -> None:
    """A click shows the same parts as the polls do, and either answer may be the last to arrive."""
    cursor[_CLICKS] = _AGAIN


def notes(cursor: Cursor) -> dict[str, Any]:
    """What was shown last, by part of a page."""
    # A copy in one go: another thread may write meanwhile.
    return {key: note for key, note in dict(cursor).items() if "." in key and not key.startswith(CHOSEN)}


def strike(cursor: Cursor, sure: dict[str, Any]) -> None:
    """Strike out all notes but these, so that what they stand for is shown again."""
    for key, note in notes(cursor).items():
        if key not in sure or sure[key] != note:
            cursor.pop(key, None)
