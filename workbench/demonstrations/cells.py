"""Is a cell what it should be? ValueError says what is wrong with which column; the caller adds the row."""

from __future__ import annotations

import math
from datetime import date, time
from decimal import Decimal
from typing import Any

LONGEST_CELL = 100_000
"""Most characters of one cell: a longer one is a mistake, and no model that fits a GPU reads it."""

_TRUE = ("true", "1", "yes", "y", "keep", "x")
_FALSE = ("", "false", "0", "no", "n")


def checked(value: Any, where: str) -> str:
    """`value` if it is a text that a model can read."""
    if value is None:
        raise ValueError(f"column {where} is missing or null")
    if not isinstance(value, str):
        raise ValueError(f"column {where} is {_shown(value)}, not a text: {_remedy(value)}")
    if not value.strip():
        raise ValueError(f"column {where} is blank")
    if len(value) > LONGEST_CELL:
        raise ValueError(f"column {where} has {len(value):,} characters; at most {LONGEST_CELL:,} are read")
    if "\x00" in value:
        raise ValueError(f"column {where} has a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"column {where} has half of a surrogate pair, which is no character") from None
    return value


def is_blank(value: Any) -> bool:
    """Whether a cell says nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def is_number(value: Any) -> bool:
    """Whether a cell is a number that can be written out; true and false are not, nor is NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def written(number: int | float) -> str:
    """A number as people write it: 4, 6.5, 0.00001; a float to the 15 digits that a sheet keeps."""
    return str(number) if isinstance(number, int) else format(Decimal(format(number, ".15g")), "f")


def flag(value: Any, column: str) -> bool:
    """A cell that says yes or no; an empty one says no."""
    said = value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if value is None:
        said = ""
    if isinstance(said, str):
        word = said.strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
    raise ValueError(f"column {column!r} is {_shown(value)}, not true or false")


def label(value: Any) -> str | None:
    """A row's id: a short text or a number; anything else says nothing."""
    if value is None or isinstance(value, list | dict | bool):
        return None
    text = str(value).strip()
    return checked(text, "'id'")[:200] if text else None


def tags(value: Any, column: str) -> tuple[str, ...]:
    """Tags: a list, or texts between commas."""
    if value is None or value == "":
        return ()
    parts = value if isinstance(value, list) else str(value).split(",")
    return tuple(checked(part, repr(column)).strip() for part in parts if not is_blank(part))


def _shown(value: Any) -> str:
    if isinstance(value, date | time):
        return f"the date {str(value).removesuffix(' 00:00:00')}" if isinstance(value, date) else f"the time {value}"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else repr(value)[:60]


def _remedy(value: Any) -> str:
    if isinstance(value, bool | int | float | date | time):
        return "put it in quotes; of a spreadsheet, save the sheet as CSV"
    return "a text is needed"
