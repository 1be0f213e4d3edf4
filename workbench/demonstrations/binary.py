"""Parquet files and Excel workbooks, read by pandas."""

from __future__ import annotations

import io
import zipfile
from typing import Any

from workbench.demonstrations.columns import header_place, known_names, title_note
from workbench.demonstrations.table import Table, named_columns
from workbench.errors import InputError

_MAX_UNPACKED = 500_000_000
_ADVICE = "Open it in the program that made it and save it again, or save it as CSV."


def parquet(content: bytes, name: str) -> Table:
    """The rows of a Parquet file."""
    import pandas

    try:
        frame = pandas.read_parquet(io.BytesIO(content), dtype_backend="pyarrow")
    except Exception as error:  # noqa: BLE001 - the reader raises anything on a broken file
        raise InputError(f"{name} is not a readable .parquet file: {_first_line(error)}.", _ADVICE) from error
    header = [str(column).strip() for column in frame.columns]
    return _table(header, frame.astype(object).to_numpy().tolist(), 1, name)


def workbook(content: bytes, name: str) -> Table:
    """The first sheet of a workbook whose header has a known name, else the first that holds anything.

    The header is the first row that is not empty, or the one below titles.
    """
    import pandas

    _check_workbook(content, name)
    try:
        sheets = pandas.read_excel(
            io.BytesIO(content), sheet_name=None, header=None, dtype=object, keep_default_na=False, na_filter=False
        )
        cells = {sheet: [[_plain(v) for v in row] for row in f.to_numpy().tolist()] for sheet, f in sheets.items()}
    except Exception as error:  # noqa: BLE001 - the reader raises anything on a broken file
        raise InputError(f"{name} is not a readable .xlsx file: {_first_line(error)}.", _ADVICE) from error
    tops = {sheet: top for sheet, rows in cells.items() if (top := _top(rows)) is not None}
    if not tops:
        raise InputError(f"{name} is empty.", "Put a header and at least two rows in it.")
    sheet = next((s for s, top in tops.items() if known_names(map(str, cells[s][top]))), next(iter(tops)))
    top = tops[sheet]
    header = ["" if cell in ("", None) else str(cell).strip() for cell in cells[sheet][top]]
    source = name if len(tops) == 1 else f"{name}, sheet {sheet!r}"
    notes = title_note(source, top + 1, cells[sheet][:top])
    if len(tops) > 1:
        notes = (f"Of the {len(tops)} sheets of {name}, {sheet!r} is read.", *notes)
    return _table(header, cells[sheet][top + 1 :], top + 2, source, notes)


def _table(header: list[str], rows: list[list[Any]], first: int, name: str, notes: tuple[str, ...] = ()) -> Table:
    """Rows as dictionaries, numbered from `first`; empty ones are left out."""
    filled = [
        (number, [_plain(cell) for cell in row])
        for number, row in enumerate(rows, start=first)
        if any(_plain(cell) not in ("", None) for cell in row)
    ]
    if not filled:
        raise InputError(f"{name} has a header and no rows.", "Add at least two rows below the header.")
    named = named_columns(header, [row for _, row in filled], name)
    made = [{column: row[place] for column, place in named.items()} for _, row in filled]
    return Table(name, made, [number for number, _ in filled], notes=notes)


def _top(rows: list[list[Any]]) -> int | None:
    """Where the header is; None in an empty sheet."""
    filled = [place for place, row in enumerate(rows) if _filled(row)]
    return filled[header_place([rows[place] for place in filled])] if filled else None


def _filled(row: list[Any]) -> bool:
    return any(cell not in ("", None) for cell in row)


def _check_workbook(content: bytes, name: str) -> None:
    """A workbook is a zip; a bomb or another zip is refused before anything of it is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{name} is not an Excel workbook.", "Save it as .xlsx in a spreadsheet, or as CSV."
        ) from error
    if not any(member.filename == "xl/workbook.xml" for member in members):
        raise InputError(f"{name} is a zip file, not an Excel workbook.", "Unpack it, and name the file in it.")
    unpacked = sum(member.file_size for member in members)
    if unpacked > _MAX_UNPACKED:
        raise InputError(f"{name} would unpack to {unpacked:,} bytes.", f"At most {_MAX_UNPACKED:,} are read; use CSV.")


def _plain(value: Any) -> Any:
    """A cell of a data frame as a plain Python value; missing ones as None."""
    import pandas

    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | dict | str):
        return value
    return None if pandas.isna(value) else value


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
