"""Taking examples in: a bundled set, pasted text, an uploaded file; and reading the same again by other columns.

What was pasted or uploaded last is kept in the draft's folder, so that a column can be changed after a restart too.
No Gradio here.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from workbench.app import samples
from workbench.app.desk import Desk
from workbench.app.drafts import parted
from workbench.app.rows import FIELDS
from workbench.demonstrations import Columns
from workbench.demonstrations.columns import ColumnError
from workbench.demonstrations.lenient import LenientReading, parse_leniently, read_leniently
from workbench.errors import InputError
from workbench.runs.folder import clear_disk_errors

_KEY = "examples.intake"
_CHOOSE = "Choose the column of what is asked and the column of the example's answer."


@dataclass(frozen=True, slots=True)
class Intake:
    """What was read last: from where, which column was taken for what, and what should be known about it.

    Attributes:
        there: every column.
        add: whether its rows, which could not be read yet, are to be put after those that are there.
    """

    file: str = ""
    name: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    there: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    add: bool = False

    @property
    def chosen(self) -> dict[str, str]:
        """The column that was taken for each field."""
        return dict(self.columns)


def latest(desk: Desk) -> Intake:
    """What was read last, also before a restart."""
    try:
        said = json.loads(desk.drafts.typed(_KEY))
        return Intake(
            str(said["file"]),
            str(said["name"]),
            tuple((str(a), str(b)) for a, b in said["columns"]),
            tuple(map(str, said["there"])),
            tuple(map(str, said["notes"])),
            said.get("add") is True,
        )
    except (ValueError, KeyError, TypeError):
        return Intake()


def use_sample(desk: Desk, name: str) -> str:
    """Put a bundled set in place of the examples; returns what was done, in a sentence."""
    try:
        path = samples.path(name)
    except KeyError:
        raise InputError(f"There is no sample set {name!r}.", f"There are: {', '.join(_names())}.") from None
    except FileNotFoundError as error:
        raise InputError(f"{error}.", "Install the workbench again, or upload a file of your own.") from error
    reading = read_leniently(path)
    if samples.find(name).keep:
        new = desk.drafts.add_keep(*reading.rows)
        return f"{new} questions were put on the list of questions to keep; your examples are as they were."
    desk.drafts.replace_rows(reading.rows, name, source=f"{name}.jsonl")
    desk.drafts.type(_KEY, "")
    return f"{samples.find(name).label}: {len(reading.rows)} examples are in use. Next: Check."


def use_text(desk: Desk, text: str, add: bool = False, columns: Columns = Columns()) -> str:
    """Take pasted rows in."""

    def keep() -> Path:
        file = _folder(desk) / "pasted.txt"
        with clear_disk_errors(file):
            file.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
        return file

    return _take(desk, lambda: parse_leniently(text, columns), keep, "pasted", add, columns)


def use_file(desk: Desk, path: str, add: bool = False, columns: Columns = Columns()) -> str:
    """Take a file in."""
    source = Path(path)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", source.stem).strip("-.")[:60] or "uploaded"

    def keep() -> Path:
        file = _folder(desk) / (stem + source.suffix.lower())
        with clear_disk_errors(file):
            shutil.copyfile(source, file)
        return file

    return _take(desk, lambda: read_leniently(source, columns), keep, stem, add, columns)


def read_again(desk: Desk, chosen: dict[str, str | None]) -> str:
    """Read what was taken in last by other columns, in place of all examples unless it was to be added to them."""
    last = latest(desk)
    file = desk.drafts.folder / "source" / Path(last.file).name if last.file else None
    if file is None or not file.is_file():
        raise InputError("There is nothing to read again.", "Paste or upload the examples once more.")
    columns = Columns(**{field: chosen.get(field) for field in FIELDS})
    if last.name == "pasted":
        text = file.read_text(encoding="utf-8", errors="surrogatepass")
        return _take(desk, lambda: parse_leniently(text, columns), lambda: file, last.name, last.add, columns)
    return _take(desk, lambda: read_leniently(file, columns), lambda: file, last.name, last.add, columns)


def _take(
    desk: Desk,
    read: Callable[[], LenientReading],
    keep_source: Callable[[], Path],
    name: str,
    add: bool,
    columns: Columns,
) -> str:
    """Read, keep what was read, and put it into the draft. Where columns are not known, a person can say them then."""
    drafts = desk.drafts
    try:
        reading = read()
    except ColumnError as error:
        chosen = tuple((field, column) for field, column in asdict(columns).items() if column is not None)
        _remember(desk, Intake(keep_source().name, name, chosen, error.there, (_CHOOSE,), add))
        raise InputError(_as_on_the_page(error.problem), "Nothing was changed yet. " + _CHOOSE) from error
    except InputError:
        if columns == Columns():
            _remember(desk, Intake())  # there are no columns of it to choose, and those from before are not meant
        raise
    file = keep_source()
    rest, keep = parted(reading.rows)
    if add and drafts.rows:
        drafts.add(*rest)
        drafts.add_keep(*keep)
    else:
        drafts.replace_rows(reading.rows, name, source=file.name)
    none = {field: column for field, column in asdict(columns).items() if column == ""}
    taken = tuple((field, column) for field, column in {**none, **reading.columns}.items() if field in FIELDS)
    _remember(desk, Intake(file.name, name, taken, reading.there, reading.notes))
    also = f" {len(keep)} of them are questions to keep." if keep else ""
    count = len(reading.rows)
    source = "" if name == "pasted" else f" from {file.name}"
    return f"{count} row{'s were' if count != 1 else ' was'} read{source}.{also}"


def _as_on_the_page(problem: str) -> str:
    """Which column lacks, called as the list is in which it is chosen."""
    said = problem.replace("has no column for the prompt", "has no column of what is asked")
    return said.replace("has no column for the demonstration", "has no column of the example's answer")


def _remember(desk: Desk, intake: Intake) -> None:
    desk.drafts.type(_KEY, json.dumps(asdict(intake)))


def _folder(desk: Desk) -> Path:
    folder = desk.drafts.folder / "source"
    with clear_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _names() -> list[str]:
    return [sample.name for sample in samples.SAMPLES]
