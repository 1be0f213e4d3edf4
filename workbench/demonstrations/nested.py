"""JSON in the shapes in which people keep rows: a list, a list under a key, columns, an object a line."""

from __future__ import annotations

import json
from typing import Any

from workbench.demonstrations.table import Table, Unread, kind_of
from workbench.errors import InputError


def json_lines(text: str, name: str) -> Table:
    """One JSON object a line; a whole list in a file called .jsonl is read as what it is."""
    if text.lstrip().startswith("[") and isinstance(_or_none(text), list):
        return json_rows(text, name)
    rows, numbers, unread = [], [], []
    # Not splitlines: it would also break at U+2028, which may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            advice = "Each line must be one JSON object, {...}."
            # "line 1 column 38 (char 37)" would be of this line, not of the text.
            at = f"{error.msg} (character {error.colno})" if isinstance(error, json.JSONDecodeError) else error
            unread.append(Unread(number, line.strip(), f"is not JSON: {at}", advice))
            continue
        if isinstance(value, dict):
            rows.append(value)
            numbers.append(number)
        else:
            unread.append(_no_object(number, line.strip(), value, "a JSON object"))
    if not rows and not unread:
        raise InputError(f"{name} has no rows.", "Put one JSON object on each line.")
    return Table(name, rows, numbers, "line", unread=tuple(unread))


def json_rows(text: str, name: str) -> Table:
    """A JSON list of objects, or an object that holds one; JSON lines in a file called .json are read as such."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(_or_none(text.strip().split("\n")[0]), dict):
            return json_lines(text, name)
        raise InputError(f"{name} is not JSON: {error}.", "Correct it there; an editor shows the place.") from error
    notes: tuple[str, ...] = ()
    if isinstance(value, dict):
        value, notes = _rows_in(value, name)
    if not isinstance(value, list):
        raise InputError(f"{name} holds {kind_of(value)}, not a list.", 'Write a list of rows: [{"prompt": ...}, ...].')
    if not value:
        raise InputError(f"{name} has 0 rows.", "Add at least two rows.")
    rows = {number: row for number, row in enumerate(value, start=1) if isinstance(row, dict)}
    unread = tuple(
        _no_object(number, json.dumps(row, ensure_ascii=False), row, "an object")
        for number, row in enumerate(value, start=1)
        if number not in rows
    )
    return Table(name, list(rows.values()), list(rows), notes=notes, unread=unread)


def _rows_in(value: dict[str, Any], name: str) -> tuple[Any, tuple[str, ...]]:
    """The rows inside an object: under its one key that holds a list of objects, or its columns side by side."""
    lists = [key for key, inner in value.items() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
    preferred = [key for key in ("data", "rows") if key in lists]
    if len(lists) > 1 and not preferred:
        raise InputError(
            f"{name} holds {len(lists)} lists of rows: {', '.join(map(repr, lists))}.", "Save the one you want alone."
        )
    if lists:
        key = (preferred or lists)[0]
        return value[key], () if preferred else (f"The rows of {name} are those under {key!r}.",)
    columns = list(value.values())
    if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        made = [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
        return made, (f"Each key of {name} is read as a column.",)
    return value, ()


def _no_object(number: int, text: str, value: Any, wanted: str) -> Unread:
    return Unread(number, text, f"is not {wanted} but {kind_of(value)}", 'Write it as {"prompt": ..., ...}.')


def _or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
