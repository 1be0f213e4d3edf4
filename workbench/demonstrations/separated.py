"""Cells between separators: CSV and TSV as spreadsheets write them, cells copied from a sheet, and arrows."""

from __future__ import annotations

import csv
import io
from typing import Any

from workbench.demonstrations.columns import known_names
from workbench.demonstrations.table import Table, named_columns
from workbench.errors import InputError

ARROWS = ("=>", "→", "->")
_SEPARATORS = (",", ";", "\t")
_PLAIN_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}


def separated(text: str, expected: str, name: str) -> Table:
    """A table with a header, its cells between `expected`, or between what the header is seen to be split by.

    Raises:
        InputError: there is no row below the header, a row has other cells than the header, a quote is left open.
    """
    separator, text, skipped = _separator(text, expected)
    records, numbers = _records(text, separator, name, skipped)
    header, body = [cell.strip() for cell in records[0]], records[1:]
    for cells, number in zip(body, numbers[1:], strict=True):
        if len(cells) != len(header):
            raise InputError(
                f"{name}, row {number} has {len(cells)} {'cell' if len(cells) == 1 else 'cells'}; "
                f"the header has {len(header)}.",
                "Put cells that hold the separator or a line break in double quotes.",
            )
    if not body:
        raise InputError(f"{name} has a header and no rows.", "Add at least two rows below the header.")
    named = named_columns(header, body, name)
    rows: list[dict[str, Any]] = [{column: cells[place] for column, place in named.items()} for cells in body]
    notes = () if separator == expected else (f"The cells of {name} are read as split by {_PLAIN_NAMES[separator]}.",)
    return Table(name, rows, numbers[1:], notes=notes)


def headed_by(text: str) -> str | None:
    """The separator that splits the first line into at least two cells; None if none does."""
    separator, text, _ = _separator(text, "\t")
    return separator if len(_first_record(text, separator)) > 1 else None


def copied_pairs(text: str, name: str) -> Table | None:
    """Two cells a line, copied from a sheet without its header; None if that is not what the text is."""
    records, numbers = _records(text, "\t", name, 0)
    if known_names(records[0]) or any(len(cells) != 2 for cells in records):
        return None
    rows: list[dict[str, Any]] = [{"prompt": cells[0], "demonstration": cells[1]} for cells in records]
    note = (
        f"{name} has no header with a known name, so every line is read as a row: first the prompt, then the "
        "demonstration."
    )
    return Table(name, rows, numbers, "line", (note,))


def arrows(text: str, arrow: str, name: str) -> Table:
    """Lines of `question => answer`."""
    rows, numbers = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        question, found, answer = line.partition(arrow)
        if not found:
            raise InputError(f"{name}, line {number} has no {arrow}.", f"Write it as: question {arrow} answer")
        rows.append({"prompt": question.strip(), "demonstration": answer.strip()})
        numbers.append(number)
    return Table(name, rows, numbers, "line")


def _separator(text: str, expected: str) -> tuple[str, str, int]:
    """What splits the cells, the text without a `sep=;` line of Excel's, and how many lines that took off."""
    first, _, rest = text.partition("\n")
    declared = first.rstrip("\r").removeprefix("sep=")
    if first.startswith("sep=") and declared in _SEPARATORS and rest.strip():
        return declared, rest, 1

    def fits(separator: str) -> tuple[int, int, bool]:
        cells = _first_record(text, separator)
        return known_names(cells), len(cells), separator == expected

    return max(_SEPARATORS, key=fits), text, 0


def _first_record(text: str, separator: str) -> list[str]:
    try:
        return next((cells for cells in _reader(text, separator) if any(cell.strip() for cell in cells)), [])
    except csv.Error:
        return []


def _records(text: str, separator: str, name: str, skipped: int) -> tuple[list[list[str]], list[int]]:
    """The records that are not blank, with the row in which a spreadsheet shows each."""
    records, numbers = [], []
    number = skipped
    try:
        for number, cells in enumerate(_reader(text, separator), start=skipped + 1):  # noqa: B007 - told on an error
            if any(cell.strip() for cell in cells):
                records.append(cells)
                numbers.append(number)
    except csv.Error as error:
        raise InputError(
            f"{name}, row {number + 1}: {error}.", "Check the double quotes around the cells there."
        ) from error
    return records, numbers


def _reader(text: str, separator: str) -> Any:
    csv.field_size_limit(len(text) + 1)
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
