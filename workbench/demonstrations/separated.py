"""Cells between separators: CSV and TSV as spreadsheets write them, cells copied from a sheet, and arrows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from workbench.demonstrations.columns import TITLES, header_place, known_names, title_note
from workbench.demonstrations.table import Table, Unread, cells_unlike, named_columns
from workbench.errors import InputError

ARROWS = ("=>", "→", "->")
_SEPARATORS = (",", ";", "\t")
_ADVICE = "Put cells that hold the separator or a line break in double quotes."
_PLAIN_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}


def separated(text: str, expected: str, name: str) -> Table:
    """A table with a header, its cells between `expected`, or between what the header is seen to be split by.

    A row that has other cells than the header, or whose quotes are amiss, is among the table's unread ones.

    Raises:
        InputError: there is no row below the header, or the header's quotes are amiss.
    """
    separator, text, skipped = _separator(text, expected)
    records, unread = _records(text, separator, skipped)
    first = min([*records, *(line.number for line in unread)], default=None)
    if first is None:
        raise InputError(f"{name} has no rows.", "Put a header and at least two rows in it.")
    if first not in records:
        # Without a header nothing says what the cells are.
        raise InputError(f"{name}, row {first} {unread[0].problem}.", unread[0].advice)
    numbers = sorted(records)
    place = header_place([records[number] for number in numbers])
    above = {number: records.pop(number) for number in numbers[:place]}
    first = numbers[place]
    header = [cell.strip() for cell in records.pop(first)]
    body = {number: cells for number, cells in records.items() if len(cells) == len(header)}
    unread += [
        Unread(number, separator.join(cells), cells_unlike(cells, len(header)), _ADVICE)
        for number, cells in records.items()
        if number not in body
    ]
    if len(header) == 1 and not body and records:
        raise InputError(
            f"{name}, row {first} has one cell, {header[0][:60]!r}, and the rows below it have more: it looks like a "
            "title above the header.",
            "Delete it, so that the names of the columns come first.",
        )
    if not body and not unread:
        raise InputError(f"{name} has a header and no rows.", "Add at least two rows below the header.")
    named = named_columns(header, list(body.values()), name)
    rows: list[dict[str, Any]] = [{column: cells[place] for column, place in named.items()} for cells in body.values()]
    notes = title_note(name, first, above.values())
    if separator != expected:
        notes = (*notes, f"The cells of {name} are read as split by {_PLAIN_NAMES[separator]}.")
    return Table(name, rows, list(body), notes=notes, unread=_in_order(unread))


def headed_by(text: str) -> str | None:
    """The separator that splits the header into at least two cells; None if none does."""
    separator, text, _ = _separator(text, "\t")
    return separator if len(_header(text, separator)) > 1 else None


def copied_pairs(text: str, name: str) -> Table | None:
    """Two cells on most lines, copied from a sheet without its header; None if that is not what the text is."""
    records, unread = _records(text, "\t", 0)
    pairs = {number: cells for number, cells in records.items() if len(cells) == 2}
    if not pairs or known_names(_header(text, "\t")) or len(pairs) * 2 <= len(records) + len(unread):
        return None
    unread += [
        Unread(
            number,
            "\t".join(cells),
            f"has {len(cells)} {'cell' if len(cells) == 1 else 'cells'}, not two",
            "Write it as: question, a tab, answer",
        )
        for number, cells in records.items()
        if number not in pairs
    ]
    rows: list[dict[str, Any]] = [{"prompt": cells[0], "demonstration": cells[1]} for cells in pairs.values()]
    note = (
        f"{name} has no header with a known name, so every line is read as a row: first the prompt, then the "
        "demonstration."
    )
    return Table(name, rows, list(pairs), "line", (note,), unread=_in_order(unread))


def arrows(text: str, arrow: str, name: str) -> Table:
    """Lines of `question => answer`."""
    rows, numbers, unread = [], [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        question, found, answer = line.partition(arrow)
        if not found:
            unread.append(Unread(number, line.strip(), f"has no {arrow}", f"Write it as: question {arrow} answer"))
            continue
        rows.append({"prompt": question.strip(), "demonstration": answer.strip()})
        numbers.append(number)
    return Table(name, rows, numbers, "line", unread=tuple(unread))


def _separator(text: str, expected: str) -> tuple[str, str, int]:
    """What splits the cells, the text without a `sep=;` line of Excel's, and how many lines that took off."""
    first, _, rest = text.partition("\n")
    declared = first.rstrip("\r").removeprefix("sep=")
    if first.startswith("sep=") and declared in _SEPARATORS and rest.strip():
        return declared, rest, 1

    def fits(separator: str) -> tuple[int, int, bool]:
        cells = _header(text, separator)
        return known_names(cells), len(cells), separator == expected

    return max(_SEPARATORS, key=fits), text, 0


def _header(text: str, separator: str) -> list[str]:
    """The cells of the header; none if what stands there cannot be read."""
    begun: list[list[str]] = []
    try:
        for cells in _reader(text, separator):
            if any(cell.strip() for cell in cells):
                begun.append(cells)
            if len(begun) > TITLES:
                break
    except csv.Error:
        pass  # below what was read; who reads the records says where
    return begun[header_place(begun)] if begun else []


def _records(text: str, separator: str, skipped: int) -> tuple[dict[int, list[str]], list[Unread]]:
    """The records that are not blank, by the row in which a spreadsheet shows each; and those with quotes amiss.

    A quote that is left open would take in everything below it, so the next record begins on the next line.
    """
    lines = list(io.StringIO(text, newline=""))
    records: dict[int, list[str]] = {}
    unread: list[Unread] = []
    place = 0  # of the line that is read next

    def rest() -> Iterator[str]:
        nonlocal place
        while place < len(lines):
            place += 1
            yield lines[place - 1]

    csv.field_size_limit(len(text) + 1)
    reader, number = csv.reader(rest(), delimiter=separator, strict=True), skipped
    while place < len(lines):
        begun, number = place, number + 1
        try:
            cells = next(reader)
        except csv.Error as error:
            advice = "Check the double quotes around the cells there."
            unread.append(Unread(number, lines[begun].strip(), f"cannot be read: {error}", advice))
            place = begun + 1
            reader = csv.reader(rest(), delimiter=separator, strict=True)
            continue
        if any(cell.strip() for cell in cells):
            records[number] = cells
    return records, unread


def _in_order(unread: list[Unread]) -> tuple[Unread, ...]:
    return tuple(sorted(unread, key=lambda line: line.number))


def _reader(text: str, separator: str) -> Any:
    csv.field_size_limit(len(text) + 1)
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
