"""Rows of cells, before anybody asks what the cells mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import InputError


@dataclass(frozen=True)
class Table:
    """Rows of cells. `numbers[i]` is where row i stands: a line of the file, or a row of the sheet.

    `notes` are plain sentences about what was guessed on the way here.
    """

    source: str
    rows: list[dict[str, Any]]
    numbers: list[int]
    unit: str = "row"
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Every column's name, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row))


def named_columns(header: Sequence[str], rows: Sequence[Sequence[Any]], name: str) -> dict[str, int]:
    """Where the cells of each column stand.

    A column without a name is left out where it is empty, as spreadsheets leave some at the end, and is called by its
    number where it is not, as the row numbers that pandas writes.

    Raises:
        InputError: two columns share a name.
    """
    columns: dict[str, int] = {}
    for place, cell in enumerate(header):
        if not cell and all(row[place] in ("", None) for row in rows if place < len(row)):
            continue
        called = cell or f"column {place + 1}"
        if called in columns:
            raise InputError(f"{name} has two columns called {called!r}.", "Give every column a name of its own.")
        columns[called] = place
    return columns


def kind_of(value: Any) -> str:
    """What a value is, in plain words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
