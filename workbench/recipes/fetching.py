"""Fetch a recipe's published files with `datasets`, from where they lie or from a folder of one's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import InputError
from workbench.recipes.recipe import Recipe, Rows, Source

_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Fetched:
    """A recipe's rows, and what is needed to know them again.

    Attributes:
        origins: for each file where it came from, its commit (None where the place has none), how many rows it has,
            and the SHA-256 of what they say.
    """

    rows: Rows
    origins: dict[str, dict[str, Any]]

    @property
    def mark(self) -> str:
        """Tells these files' content from any other's."""
        joined = "".join(f"{name}{origin['sha256']}" for name, origin in sorted(self.origins.items()))
        return hashlib.sha256(joined.encode()).hexdigest()[:12]


def fetch(recipe: Recipe, folder: Path | None = None, seed: int = 0) -> Fetched:
    """The recipe's data as demonstrations.

    Args:
        folder: read the files from here (same paths as published) and use no network.
        seed: of what is drawn and held back.

    Raises:
        InputError: `datasets` is missing, a file is not there, cannot be reached or read, or lacks a column.
    """
    tables: dict[str, Sequence[Mapping[str, Any]]] = {}
    origins: dict[str, dict[str, Any]] = {}
    for name, source in recipe.sources.items():
        if source.optional and (folder is None or not (folder / source.file).is_file()):
            continue
        where, commit = _local(source, folder) if folder is not None else _remote(source)
        tables[name] = _read(source, where)
        origins[name] = {
            "from": where,
            "commit": commit,
            "rows": len(tables[name]),
            "sha256": _hash(tables[name]),
        }
    rows = recipe.rows(tables, seed)
    for side, part in (("teach", rows.teaching), ("test with", rows.test)):
        if not part:
            counts = ", ".join(f"{origin['rows']} rows in {origin['from']}" for origin in origins.values())
            raise InputError(
                f"No row is left to {side} ({counts}).",
                "Look at the files: they do not hold what the recipe reads (workbench recipe --list).",
            )
    return Fetched(rows, origins)


def _local(source: Source, folder: Path) -> tuple[str, None]:
    path = folder.expanduser().absolute() / source.file
    if not path.is_file():
        raise InputError(
            f"There is no {source.file} in {folder}.",
            "Lay the files there under the paths that they are published under, or leave --data out to fetch them.",
        )
    return str(path), None


def _remote(source: Source) -> tuple[str, str | None]:
    """Where a file lies on the network, at one commit where the place has commits."""
    if source.place.startswith("https://"):
        return f"{source.place}/{source.file}", None
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(source.place, revision=source.revision, timeout=_SECONDS).sha
    except Exception as error:  # noqa: BLE001 - whatever the network's libraries raise means the same to a person
        raise _unreached(source.place, error) from error
    return f"hf://datasets/{source.place}@{commit}/{source.file}", commit


def _read(source: Source, where: str) -> list[dict[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "`datasets` is not installed.", 'Install it: pip install "sdft-workbench[recipes]".'
        ) from error
    # A file of one's own was found on the disk, so what fails then is its content.
    here = Path(where).is_absolute()
    noisy = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset(source.kind, data_files={"train": where}, split="train")
        found: list[dict[str, Any]] = table.to_list()
        names = list(table.column_names)
    except Exception as error:  # noqa: BLE001 - as above
        if not here:
            raise _unreached(where, error) from error
        raise InputError(
            f"{where} cannot be read as {source.kind}: {_line(error)}.", "Copy or download it again."
        ) from error
    finally:
        if not noisy:
            datasets.enable_progress_bars()
    lacking = [name for name in source.columns if name not in names]
    if lacking:
        raise InputError(
            f"{where} has no column {', '.join(lacking)}; it has {', '.join(names)}.",
            "The file may have changed since this recipe was written: name a folder with the right files by --data.",
        )
    return found


def _unreached(where: str, error: Exception) -> InputError:
    return InputError(
        f"{where} could not be fetched: {_line(error)}.",
        "A recipe needs the network once. Check it (and HF_HUB_OFFLINE), or bring the files and name their folder "
        "with --data DIR.",
    )


def _line(error: BaseException) -> str:
    """What an error and the one under it say, on one line."""
    said = error if error.__cause__ is None else error.__cause__
    text = " ".join(str(said).split()) or type(said).__name__
    return text[:300].rstrip(".")


def _hash(rows: Sequence[Mapping[str, Any]]) -> str:
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return total.hexdigest()
