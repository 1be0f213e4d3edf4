"""Taking examples in: a bundled set, pasted text, an uploaded file; and reading the same again by other columns.

What was pasted or uploaded last is kept in the draft's folder, so that a column can be changed after a restart too.
No Gradio here.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from workbench.app import samples
from workbench.app.desk import Desk
from workbench.demonstrations import Columns
from workbench.demonstrations.lenient import LenientReading, parse_leniently, read_leniently
from workbench.errors import InputError
from workbench.runs.folder import clear_disk_errors

FIELDS = ("prompt", "demonstration", "answer", "context")
_KEY = "examples.intake"


@dataclass(frozen=True, slots=True)
class Intake:
    """What was read last: from where, which column was taken for what, and what should be known about it."""

    file: str = ""
    name: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    there: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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
    reading = parse_leniently(text, columns)
    file = _folder(desk) / "pasted.txt"
    with clear_disk_errors(file):
        file.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    return _take(desk, reading, file, "pasted", add)


def use_file(desk: Desk, path: str, add: bool = False, columns: Columns = Columns()) -> str:
    """Take a file in."""
    source = Path(path)
    reading = read_leniently(source, columns)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", source.stem).strip("-.")[:60] or "uploaded"
    file = _folder(desk) / (stem + source.suffix.lower())
    with clear_disk_errors(file):
        shutil.copyfile(source, file)
    return _take(desk, reading, file, stem, add)


def read_again(desk: Desk, chosen: dict[str, str | None]) -> str:
    """Read what was taken in last by other columns; it takes the place of all examples."""
    last = latest(desk)
    file = desk.drafts.folder / "source" / Path(last.file).name if last.file else None
    if file is None or not file.is_file():
        raise InputError("There is nothing to read again.", "Paste or upload the examples once more.")
    columns = Columns(**{field: chosen.get(field) or None for field in FIELDS})
    if last.name == "pasted":
        reading = parse_leniently(file.read_text(encoding="utf-8", errors="surrogatepass"), columns)
    else:
        reading = read_leniently(file, columns)
    return _take(desk, reading, file, last.name, add=False)


def _take(desk: Desk, reading: LenientReading, file: Path, name: str, add: bool) -> str:
    drafts = desk.drafts
    keep = [row for row in reading.rows if row.get("keep") is True]
    if add and drafts.rows:
        drafts.add(*(row for row in reading.rows if row.get("keep") is not True))
        drafts.add_keep(*keep)
    else:
        drafts.replace_rows(reading.rows, name, source=file.name)
    columns = [(field, column) for field, column in reading.columns.items() if field in FIELDS]
    said = {"file": file.name, "name": name, "columns": columns, "there": reading.there, "notes": reading.notes}
    drafts.type(_KEY, json.dumps(said))
    also = f" {len(keep)} of them are questions to keep." if keep else ""
    return f"{len(reading.rows)} rows were read.{also}"


def _folder(desk: Desk) -> Path:
    folder = desk.drafts.folder / "source"
    with clear_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _names() -> list[str]:
    return [sample.name for sample in samples.SAMPLES]
