"""The sets of examples that come with the program."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDER = "sample_data"
# In an installed package they lie inside it; in a checkout beside it.
_FOLDERS = (_PACKAGE / _FOLDER, _PACKAGE.parent / _FOLDER)


def bundled_sets() -> dict[str, Path]:
    """The file of each set by its name, in the order of the names."""
    return {file.stem: file for folder in reversed(_FOLDERS) for file in sorted(folder.glob("*.jsonl"))}


def bundled(named: Path) -> Path | None:
    """The set that is meant by `zorbic`, or by `sample_data/zorbic.jsonl` away from a checkout; None if none is."""
    name = named.stem if named == Path(_FOLDER, f"{named.stem}.jsonl") else str(named)
    return bundled_sets().get(name)
