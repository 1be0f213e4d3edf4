"""Files and pasted text as rows of cells, before anybody asks what the cells mean.

Every reader gives `Table`: the column names, the rows, and each row's number as a person sees it. pandas reads the
binary formats; text is read here, since its errors must name a line.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import InputError

MAX_BYTES = 200_000_000
_MAX_UNPACKED = 500_000_000
_ARROW = "=>"
EXTENSIONS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".txt", ".md")


@dataclass(frozen=True)
class Table:
    """Rows of cells. `numbers[i]` is where row i stands: a line of the file, or a row of the sheet."""

    source: str
    rows: list[dict[str, Any]]
    numbers: list[int]
    unit: str = "row"
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Every column's name, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row))


def load_table(path: Path) -> Table:
    """Read a file by its extension.

    Raises:
        InputError: the file is missing, a folder, empty, too large, of an unknown kind, or broken.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder.", "Name the file in it.")
    if not path.exists():
        raise InputError(f"There is no file {path}.", "Check the name and the folder.")
    kind = path.suffix.lower()
    if kind not in EXTENSIONS:
        raise InputError(
            f"{path.name} ends in {kind or 'nothing'}, which is not a kind of file that is read.",
            f"Save it as one of {', '.join(EXTENSIONS)}.",
        )
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path.name} has {size:,} bytes; at most {MAX_BYTES:,} are read.", "Split the file.")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check your rights to the file.") from error
    if not content.strip():
        raise InputError(f"{path.name} is empty.", "Put a header and at least two rows in it.")
    if kind in (".parquet", ".xlsx"):
        return _binary(content, kind, path.name)
    text = decode(content, path.name)
    if kind in (".csv", ".tsv"):
        return _separated(text, "," if kind == ".csv" else "\t", path.name)
    if kind in (".jsonl", ".ndjson"):
        return _json_lines(text, path.name)
    if kind == ".json":
        return _json(text, path.name)
    return pasted(text, path.name)


def decode(content: bytes, name: str) -> str:
    """Bytes as UTF-8 text, a byte order mark taken off. Raises InputError on anything else."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{name} is UTF-16.", "Save it as UTF-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{name} is not UTF-8: byte {error.start} (line {line}) is {content[error.start]:#04x}.",
            "Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8').",
        ) from error
    if "\x00" in text:
        line = text[: text.index("\x00")].count("\n") + 1
        raise InputError(f"{name} has a NUL byte in line {line}.", "Save it as plain UTF-8 text.")
    return text


def pasted(text: str, name: str = "the pasted text") -> Table:
    """JSON lines, a JSON list, a table copied from a sheet, or lines of `question => answer`."""
    stripped = text.strip()
    if not stripped:
        raise InputError(f"{name} is empty.", "Paste rows, or write lines such as: question => answer")
    if stripped[0] == "[":
        return _json(text, name)
    if stripped[0] == "{":
        return _json_lines(text, name)
    first = stripped.splitlines()[0]
    if _ARROW in first:
        return _arrows(text, name)
    for separator in ("\t", ";", ","):
        if separator in first:
            return _separated(text, separator, name)
    raise InputError(
        f"{name} is neither JSON lines, nor a table, nor lines of question => answer; it begins with {first[:60]!r}.",
        "Write one row a line, for example: How do you say red ball? => mipa tolu",
    )


def _arrows(text: str, name: str) -> Table:
    rows, numbers = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        question, arrow, answer = line.partition(_ARROW)
        if not arrow:
            raise InputError(f"{name}, line {number} has no {_ARROW}.", f"Write it as: question {_ARROW} answer")
        rows.append({"prompt": question.strip(), "demonstration": answer.strip()})
        numbers.append(number)
    return Table(name, rows, numbers, "line")


def _separated(text: str, separator: str, name: str) -> Table:
    csv.field_size_limit(MAX_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] = []
    rows, numbers = [], []
    row_number = 0
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            row_number += 1
            if row_number == 1:
                header = [cell.strip() for cell in cells]
                _check_header(header, name)
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{name}, row {row_number} has {len(cells)} cells; the header has {len(header)}.",
                    "Put cells that hold the separator or a line break in double quotes.",
                )
            rows.append(dict(zip(header, cells, strict=True)))
            numbers.append(row_number)
    except csv.Error as error:
        raise InputError(
            f"{name}, after row {row_number}: {error}.", "Check the double quotes around the cells there."
        ) from error
    if not rows:
        raise InputError(f"{name} has a header and no rows.", "Add at least two rows below the header.")
    return Table(name, rows, numbers)


def _check_header(header: list[str], name: str) -> None:
    twice = sorted({cell for cell in header if header.count(cell) > 1})
    if twice:
        raise InputError(f"{name} has two columns called {twice[0]!r}.", "Give every column a name of its own.")


def _json_lines(text: str, name: str) -> Table:
    rows, numbers = [], []
    # Not splitlines: it would also break at U+2028, which may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append(_json_object(line, f"{name}, line {number}"))
            numbers.append(number)
    if not rows:
        raise InputError(f"{name} has no rows.", "Put one JSON object on each line.")
    return Table(name, rows, numbers, "line")


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {error}.", "Each line must be one JSON object, {{...}}.") from error
    if not isinstance(value, dict):
        raise InputError(f"{where} is not a JSON object but {_kind(value)}.", 'Write it as {"prompt": ..., ...}.')
    return value


def _json(text: str, name: str) -> Table:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {error}.", "For one object on each line name it .jsonl.") from error
    if isinstance(value, dict):
        value = value.get("data", value.get("rows", value))
    if not isinstance(value, list):
        raise InputError(f"{name} holds {_kind(value)}, not a list.", 'Write a list of rows: [{"prompt": ...}, ...].')
    if not value:
        raise InputError(f"{name} has 0 rows.", "Add at least two rows.")
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise InputError(f"{name}, row {number} is {_kind(row)}, not an object.", 'Write {"prompt": ..., ...}.')
    return Table(name, value, list(range(1, len(value) + 1)))


def _binary(content: bytes, kind: str, name: str) -> Table:
    import pandas

    advice = "Open it in the program that made it and save it again, or save it as CSV."
    try:
        if kind == ".xlsx":
            _check_workbook(content, name)
            frame = pandas.read_excel(io.BytesIO(content), dtype=object, keep_default_na=False, na_filter=False)
        else:
            frame = pandas.read_parquet(io.BytesIO(content), dtype_backend="pyarrow")
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - these readers raise anything on a broken file
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name} is not a readable {kind} file: {problem}.", advice) from error
    frame.columns = [str(column).strip() for column in frame.columns]
    _check_header(list(frame.columns), name)
    first = 2 if kind == ".xlsx" else 1
    rows = [{str(k): _plain(v) for k, v in row.items()} for row in frame.astype(object).to_dict("records")]
    kept = [(i + first, row) for i, row in enumerate(rows) if any(v not in ("", None) for v in row.values())]
    if not kept:
        raise InputError(f"{name} has a header and no rows.", "Add at least two rows below the header.")
    return Table(name, [row for _, row in kept], [number for number, _ in kept])


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


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
