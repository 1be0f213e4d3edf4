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
from workbench.demonstrations.separated import ARROWS
from workbench.demonstrations.table import Table, Unread
from workbench.demonstrations.tables import load_table, pasted
from workbench.errors import InputError

_NEED = ("prompt", "demonstration")
_UNREAD = "unread"
_MEND = "Mend it under question, or write each part into its own cell."
FIELDS = ("prompt", "demonstration", "answer", "context", "id", "tags", "keep")


@dataclass(frozen=True, slots=True)
class LenientReading:
    """What a file held, right or wrong.

    Attributes:
        rows: plain values by field (`Demonstration.to_dict`); what a wrong row held is kept as it stands. A line that
            is no row has its text as the prompt and says under `unread` why (see `mended`).
        columns: which column was taken for each field: the stated guess.
        there: every column, in order.
        notes: plain sentences about what was guessed or left out.
    """

    rows: tuple[dict[str, Any], ...]
    columns: dict[str, str]
    there: tuple[str, ...]
    notes: tuple[str, ...]


def read_leniently(path: Path | str, columns: Columns = Columns()) -> LenientReading:
    """Read a file of any kind that `read` reads. Raises InputError only if nothing in it is a row or a column lacks."""
    return _interpret(load_table(Path(path), columns != Columns()), columns)


def parse_leniently(text: str, columns: Columns = Columns()) -> LenientReading:
    """Read pasted text as `parse` does. Raises InputError only if nothing in it is a row or a column lacks."""
    if "\x00" in text:
        raise InputError("The pasted text has a NUL character.", "Copy it again as plain text.")
    return _interpret(pasted(text, headed=columns != Columns()), columns)


def row_from(values: dict[str, Any]) -> Demonstration:
    """A row from plain values by field. Raises ValueError with what is wrong with which field."""
    return _row(values, {name: name for name in FIELDS if name in values}, _NEED)


def problem_of(values: dict[str, Any]) -> str:
    """What is wrong with a row; empty if nothing is."""
    if _UNREAD in values:
        return str(values[_UNREAD]["problem"])
    if "demonstration" not in values and "context" not in values and not values.get("keep"):
        values = {**values, "demonstration": None}
    try:
        row_from(values)
    except ValueError as error:
        said = str(error)
        return said[0].upper() + said[1:] + "."
    return ""


def mended(values: dict[str, Any]) -> dict[str, Any]:
    """A row whose prompt was changed: where it was an unread line, what the line says now.

    A line that is meant for JSON, or to hold an arrow, is read again, and stays unread while it is amiss. Anything else
    is taken as what is asked.
    """
    if _UNREAD not in values:
        return values
    text, mark = values["prompt"], values[_UNREAD]
    rest = {name: value for name, value in values.items() if name != _UNREAD}
    if not isinstance(text, str) or not (text.lstrip().startswith("{") or ARROWS[0] in text):
        return rest
    try:
        table = pasted(text)
        row = _values(table.rows[0], mark["columns"])[0]
    except InputError as error:
        said = error.problem.removeprefix("the pasted text, line 1 ")
        return {**values, _UNREAD: {**mark, "problem": f"The line {said} {_MEND}"}}
    return {**row, **{name: value for name, value in rest.items() if name != "prompt"}}


def _interpret(table: Table, columns: Columns) -> LenientReading:
    chosen, notes = choose(table, columns, _NEED)
    numbered: dict[int, dict[str, Any]] = {line.number: _unread(line, chosen) for line in table.unread}
    good: list[Demonstration] = []
    for number, cells in zip(table.numbers, table.rows, strict=True):
        numbered[number], row = _values(cells, chosen)
        if row is not None:
            good.append(row)
    rows = [row for _, row in sorted(numbered.items())]
    # That there are no answers at all is said of the rows as they stand, not of how they were read.
    if good and "answer" in chosen:
        notes += _about_answers(table, chosen, good)
    return LenientReading(tuple(rows), chosen, tuple(table.columns), (*table.notes, *notes))


def _values(cells: dict[str, Any], chosen: dict[str, str]) -> tuple[dict[str, Any], Demonstration | None]:
    """A row's values by field, and the row itself; None if something in it is wrong."""
    try:
        row = _row(cells, chosen, _NEED)
    except ValueError:
        held = {name: cells[column] for name, column in chosen.items() if cells.get(column) is not None}
        return {"prompt": "", **held}, None
    return row.to_dict(), row


def _unread(line: Unread, chosen: dict[str, str]) -> dict[str, Any]:
    """A line that is no row, as one that says so; what it holds all the same is judged as any row's cells are."""
    if line.cells is not None:
        return line.cells
    # Without its number in the text: a person reads this beside the row's number in the table, which is another one.
    said = f"The line {line.problem}. {_MEND}"
    return {"prompt": line.text, _UNREAD: {"problem": said, "columns": chosen}}
