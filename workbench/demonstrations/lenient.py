"""Reading row by row: what is wrong stands beside its row, and the other rows can be used.

`read` and `parse` refuse a file whole. Where somebody looks at the rows while they mend them, that is in the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.demonstrations.columns import Columns, choose
from workbench.demonstrations.reading import _about_answers, _row
from workbench.demonstrations.record import Demonstration
from workbench.demonstrations.table import Table
from workbench.demonstrations.tables import load_table, pasted
from workbench.errors import InputError

_NEED = ("prompt", "demonstration")
FIELDS = ("prompt", "demonstration", "answer", "context", "id", "tags", "keep")


@dataclass(frozen=True, slots=True)
class LenientReading:
    """What a file held, right or wrong.

    Attributes:
        rows: plain values by field (`Demonstration.to_dict`); what a wrong row held is kept as it stands.
        columns: which column was taken for each field: the stated guess.
        there: every column, in order.
        notes: plain sentences about what was guessed or left out.
    """

    rows: tuple[dict[str, Any], ...]
    columns: dict[str, str]
    there: tuple[str, ...]
    notes: tuple[str, ...]


def read_leniently(path: Path | str, columns: Columns = Columns()) -> LenientReading:
    """Read a file of any kind that `read` reads. Raises InputError only if it is no table or lacks a column."""
    return _interpret(load_table(Path(path), columns != Columns()), columns)


def parse_leniently(text: str, columns: Columns = Columns()) -> LenientReading:
    """Read pasted text as `parse` does. Raises InputError only if it is no table or lacks a column."""
    if "\x00" in text:
        raise InputError("The pasted text has a NUL character.", "Copy it again as plain text.")
    return _interpret(pasted(text, headed=columns != Columns()), columns)


def row_from(values: dict[str, Any]) -> Demonstration:
    """A row from plain values by field. Raises ValueError with what is wrong with which field."""
    return _row(values, {name: name for name in FIELDS if name in values}, _NEED)


def problem_of(values: dict[str, Any]) -> str:
    """What is wrong with a row; empty if nothing is."""
    if "demonstration" not in values and "context" not in values and not values.get("keep"):
        values = {**values, "demonstration": None}
    try:
        row_from(values)
    except ValueError as error:
        said = str(error)
        return said[0].upper() + said[1:] + "."
    return ""


def _interpret(table: Table, columns: Columns) -> LenientReading:
    chosen, notes = choose(table, columns, _NEED)
    rows: list[dict[str, Any]] = []
    good: list[Demonstration] = []
    for cells in table.rows:
        try:
            row = _row(cells, chosen, _NEED)
        except ValueError:
            rows.append({name: cells[column] for name, column in chosen.items() if cells.get(column) is not None})
            rows[-1].setdefault("prompt", "")
        else:
            good.append(row)
            rows.append(row.to_dict())
    wrong = len(rows) - len(good)
    if wrong:
        notes.append(f"{wrong} of {len(rows)} rows are wrong; what is wrong stands beside each.")
    if good:
        notes += _about_answers(table, chosen, good)
    return LenientReading(tuple(rows), chosen, tuple(table.columns), (*table.notes, *notes))
