"""Files and pasted text as tables: the kind of file decides who reads it.

pandas reads the binary formats; text is read here, since its errors must name a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from workbench.demonstrations.binary import parquet, workbook
from workbench.demonstrations.bundled import bundled, bundled_sets
from workbench.demonstrations.columns import known_names
from workbench.demonstrations.nested import json_lines, json_rows
from workbench.demonstrations.separated import ARROWS, arrows, copied_pairs, headed_by, separated
from workbench.demonstrations.table import Table
from workbench.demonstrations.written import markdown, turns
from workbench.errors import InputError

MAX_BYTES = 200_000_000
EXTENSIONS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".txt", ".md")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def load_table(path: Path, headed: bool = False) -> Table:
    """Read a file by its extension; a name that is no file's may be a bundled set's.

    Args:
        headed: whether cells copied from a sheet are known to have a header, since somebody named its columns.

    Raises:
        InputError: the file is missing, a folder, empty, too large, of an unknown kind, or broken.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder.", "Name the file in it.")
        if not path.exists():
            came_along = bundled(path)
            if came_along is None:
                raise InputError(
                    f"There is no file {path}.",
                    f"Check the name and the folder. These sets are there by name: {', '.join(bundled_sets())}.",
                )
            path = came_along
        kind = path.suffix.lower()
        if kind == ".xls":
            raise InputError(
                f"{path.name} is a workbook of Excel 2003 or earlier, which is not read.",
                "Open it in a spreadsheet and save it as .xlsx or CSV.",
            )
        if kind not in EXTENSIONS:
            raise InputError(
                f"{path.name} ends in {kind or 'nothing'}, which is not a kind of file that is read.",
                f"Save it as one of {', '.join(EXTENSIONS)}.",
            )
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path.name} has {size:,} bytes; at most {MAX_BYTES:,} are read.", "Split the file.")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", "Check its name and your rights to it."
        ) from error
    if not content.strip():
        raise InputError(f"{path.name} is empty.", "Put at least two rows in it.")
    if kind == ".parquet":
        return parquet(content, path.name)
    if kind == ".xlsx":
        return workbook(content, path.name)
    text = decode(content, path.name)
    if not text.strip():
        raise InputError(f"{path.name} is empty.", "Put at least two rows in it.")
    if kind in (".csv", ".tsv"):
        return separated(text, "," if kind == ".csv" else "\t", path.name)
    if kind in (".jsonl", ".ndjson"):
        return json_lines(text, path.name)
    if kind == ".json":
        return json_rows(text, path.name)
    return pasted(text, path.name, headed)


def decode(content: bytes, name: str) -> str:
    """Bytes as text: UTF-8, or UTF-16 where the file begins with its mark, as Excel's Unicode text does.

    Raises:
        InputError: it is neither; a guess would put wrong letters into the demonstrations.
    """
    encoding = "UTF-16" if content[:2] in _UTF_16 else "UTF-8"
    try:
        text = content.decode("utf-16" if encoding == "UTF-16" else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{name} is not {encoding}: byte {error.start} (line {line}) is {content[error.start]:#04x}.",
            "Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8').",
        ) from error
    if "\x00" in text:
        line = text[: text.index("\x00")].count("\n") + 1
        raise InputError(f"{name} has a NUL byte in line {line}.", "Save it as plain UTF-8 text.")
    return text


def pasted(text: str, name: str = "the pasted text", headed: bool = False) -> Table:
    """JSON lines, a JSON list, a table of Markdown, questions and answers after `Q:` and `A:`, lines of
    `question => answer`, or cells copied from a sheet with or without a header.

    The first line says which; where it says nothing, most of the lines do.
    """
    stripped = text.strip()
    if not stripped:
        raise InputError(f"{name} is empty.", "Paste rows, or write lines such as: question => answer")
    if stripped[0] == "[":
        return json_rows(text, name)
    if stripped[0] == "{":
        return json_rows(text, name) if stripped.splitlines()[0] == "{" else json_lines(text, name)
    lines = [line.strip() for line in stripped.splitlines() if line.strip()]
    if _most(line.startswith("{") and line.endswith("}") for line in lines):
        return json_lines(text, name)  # the first line is amiss, or says something about the others
    if written := markdown(text, name) or turns(text, name):
        return written
    first = lines[0]
    # A cell of a sheet may hold "->"; "=>" is what is asked for, so it comes before anything else.
    arrow = next((arrow for arrow in ARROWS if arrow in first), None)
    if arrow is None and _most(ARROWS[0] in line for line in lines) and not known_names(re.split("[,;\t]", first)):
        arrow = ARROWS[0]
    if arrow and (arrow == ARROWS[0] or "\t" not in first):
        return arrows(text, arrow, name)
    separator = headed_by(text)
    if separator:
        pairs = copied_pairs(text, name) if separator == "\t" and not headed else None
        return pairs or separated(text, separator, name)
    raise InputError(
        f"{name} is neither JSON lines, nor a table, nor lines of question => answer; it begins with {first[:60]!r}.",
        "Write one row a line, for example: How do you say red ball? => mipa tolu",
    )


def _most(held: Iterable[bool]) -> bool:
    """Whether more than half of these are so."""
    said = list(held)
    return sum(said) * 2 > len(said)
