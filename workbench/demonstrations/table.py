"""Rows of cells, before anybody asks what the cells mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import InputError

UNNAMED = "column {}"
"""What a column without a name is called, by its number."""


@dataclass(frozen=True)
class Unread:
    """A line that is no row: it is not JSON, say, or has other cells than the header.

    Attributes:
        number: where it stands, as `Table.numbers`.
        text: the line itself, so that nothing of it is lost.
        problem: what is wrong with it, said of the line: "is not JSON: ...".
        advice: what to do about it in the file.
        cells: what it holds all the same; None where that cannot be told.
    """

    number: int
    text: str
    problem: str
    advice: str
    cells: dict[str, Any] | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells. `numbers[i]` is where row i stands: a line of the file, or a row of the sheet.

    `notes` are plain sentences about what was guessed on the way here. `unread` are the lines that are no rows: who
    wants the file whole asks `refuse_unread`, who shows a person the rows shows these among them.

    Raises:
        InputError: there are only lines that are no rows.
    """

    source: str
    rows: list[dict[str, Any]]
    numbers: list[int]
    unit: str = "row"
    notes: tuple[str, ...] = ()
    unread: tuple[Unread, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if not self.rows:
            self.refuse_unread()

    def refuse_unread(self) -> None:
        """Raise InputError about the first line that is no row, if there is one."""
        for line in self.unread:
            raise InputError(f"{self.source}, {self.unit} {line.number} {line.problem}.", line.advice)

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
        called = cell or UNNAMED.format(place + 1)
        if called in columns:
            raise InputError(f"{name} has two columns called {called!r}.", "Give every column a name of its own.")
        columns[called] = place
    return columns


def cells_unlike(cells: Sequence[str], header: int) -> str:
    """What is wrong with a line that has other cells than the header, which has `header`."""
    return f"has {len(cells)} {'cell' if len(cells) == 1 else 'cells'}; the header has {header}"


def wrong_rows(wrong: int, of: int) -> str:
    """How many rows are wrong, in words."""
    return f"{wrong} of {of} rows {'is' if wrong == 1 else 'are'} wrong"


def kind_of(value: Any) -> str:
    """What a value is, in plain words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
