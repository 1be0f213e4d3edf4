"""What the person entered: rows, questions to keep, settings, the run in view, the last check. No Gradio here.

Everything is in the folder `.draft` beside the runs and is written at each change, whole or not at all, so that
nothing is lost on a refresh, a restart or kill -9.

    rows.jsonl, keep.jsonl    the rows, wrong ones included, and the questions to keep
    draft.json                the set's name, settings, method, run, share that is kept back
    check.json                the last check
    typed.json                what stands in text fields
    undo.jsonl                what undo takes back (see `history.py`)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from workbench.app.choices import Choices
from workbench.app.history import Examples, History, Row
from workbench.demonstrations import Demonstration, Split, split, write
from workbench.demonstrations.lenient import problem_of, row_from
from workbench.demonstrations.table import wrong_rows
from workbench.errors import InputError
from workbench.runs.folder import clear_disk_errors

_Judged = tuple[tuple[Row, ...], list[Demonstration], dict[int, str]]
_NOTHING: Mapping[str, str] = {}


class Draft:
    """What one workbench holds. Every method may be called from any thread; each change is saved before it returns.

    Attributes:
        version: rises at each change but those of `type`, so that a page can tell whether to redraw.
        marks: rises with each change of what `set_misfits` was given.
        edition: a text that is another one for other rows, so that a table that is behind can be told.
        notice: what a person should know about the saved draft; empty if all is well.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 1
        self.notice = ""
        self._lock = threading.RLock()
        self._good: _Judged | None = None
        self._misfits = _NOTHING
        self.marks = 0
        about = self._read("draft.json")
        self._examples = Examples(
            rows=tuple(self._read_lines("rows.jsonl")),
            keep=tuple(self._read_lines("keep.jsonl")),
            name=str(about.get("name", "")),
            source=str(about.get("source", "")),
        )
        self.edition = _edition(self.rows)
        self._undo = History(folder / "undo.jsonl", self._examples)
        known = {f.name for f in fields(Choices)}
        self._choices = Choices(**{"settings": {}, **{k: v for k, v in about.items() if k in known}})
        self._check: dict[str, Any] | None = self._read("check.json") or None
        self._typed: dict[str, str] = self._read("typed.json")

    # What is there

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row, wrong ones too, in order."""
        return self._examples.rows

    @property
    def good(self) -> list[Demonstration]:
        """The rows that can be used, in order."""
        return list(self._judged()[1])

    @property
    def numbered(self) -> list[Row]:
        """The good rows as values; one without an id is called by its number in the table, where errors send one."""
        with self._lock:
            rows, good, problems = self._judged()
        places = (place for place in range(len(rows)) if place not in problems)
        return [{"id": str(place + 1), **row.to_dict()} for place, row in zip(places, good, strict=True)]

    @property
    def problems(self) -> dict[int, str]:
        """What is wrong, by the row's place in `rows` (from 0)."""
        return dict(self._judged()[2])

    @property
    def keep(self) -> tuple[Row, ...]:
        """Questions whose answers should stay as they are: `{"prompt": ..., "keep": True}`."""
        return self._examples.keep

    @property
    def name(self) -> str:
        """What the set is called; a run is called after it."""
        return self._examples.name

    @property
    def source(self) -> str:
        """Where the rows came from, in words for the run's record."""
        return self._examples.source

    @property
    def choices(self) -> Choices:
        """Method, settings, run in view and the like."""
        return self._choices

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Settings by group and name: only what differs from the model's defaults."""
        return {group: dict(values) for group, values in self._choices.settings.items()}

    @property
    def method(self) -> str:
        """sdft or sft."""
        return self._choices.method

    @property
    def run(self) -> str | None:
        """The run in view on Teach and Compare."""
        return self._choices.run

    @property
    def check(self) -> dict[str, Any] | None:
        """The last check's result as the worker gave it, with `of`: what it was made of (see `fingerprint`)."""
        return self._check

    @property
    def changes(self) -> int:
        """How many changes `undo` can take back."""
        return len(self._undo)

    def typed(self, key: str) -> str:
        """What stands in a text field."""
        return str(self._typed.get(key, ""))

    def split(self, choices: Choices | None = None) -> Split:
        """How the good rows are split: the same as the run will have. Raises InputError where that cannot be.

        Args:
            choices: what a run is begun with; None: what is chosen here.
        """
        choices = choices or self._choices
        seed = int(choices.settings.get("optim", {}).get("seed", 0))
        if choices.strict and self.problems:
            raise InputError(
                f"{wrong_rows(len(self.problems), len(self.rows))}.",
                "Mend or delete them on the Examples page, or untick that wrong rows block the others.",
            )
        if not self.good:
            raise InputError("There are no examples yet.", "Choose a set on the Examples page and use it.")
        return split(self.good, held_out=choices.held_out, seed=seed)

    def fingerprint(self) -> str:
        """What a check depends on, as a short text: it no longer holds when this has changed."""
        parts = [
            self.rows,
            self._choices.scorer,
            self._choices.settings.get("teacher"),
            self._choices.settings.get("rollout"),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=dict).encode()).hexdigest()[:16]

    def files(self) -> tuple[Path, Path | None]:
        """Write the good rows, and the questions to keep if there are any, as files that every command reads."""
        kept = [Demonstration.from_dict(dict(row)) for row in self.keep]
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name[:80]).strip("-.") or "examples"
        with self._lock, clear_disk_errors(self.folder):
            folder = self.folder / "files"
            folder.mkdir(parents=True, exist_ok=True)
            rows, keep = folder / f"{name}.jsonl", folder / f"{name}.keep.jsonl"
            write(self.good, rows)
            if kept:
                write(kept, keep)
        return rows, keep if kept else None

    # Changes of rows and keep list, which `undo` takes back

    def replace_rows(self, rows: Iterable[Row], name: str, source: str = "") -> None:
        """Put these rows in place of all."""
        rows = tuple(dict(row) for row in rows)
        rest, keep = parted(rows)
        self._change(rows=rest, keep=tuple(map(_keep_row, keep)) or self.keep, name=name[:90], source=source or name)

    def set_rows(self, rows: Iterable[Row]) -> None:
        """Put rows in place of all, under the same name: what a table holds after it was edited."""
        self._change(rows=tuple(dict(row) for row in rows))

    def revise(self, revise: Callable[[tuple[Row, ...]], Iterable[Row]]) -> None:
        """Put what `revise` makes of the rows in their place; nothing changes them meanwhile."""
        with self._lock:
            self.set_rows(revise(self.rows))

    def edit(self, place: int, values: Row) -> None:
        """Put other values in place of the row there."""
        with self._lock:  # as everywhere below: what is read here must still be so when it is written
            self._there(place, self.rows)
            self._change(rows=(*self.rows[:place], dict(values), *self.rows[place + 1 :]))

    def add(self, *rows: Row) -> None:
        """Put rows after the last one."""
        with self._lock:
            self._change(rows=(*self.rows, *map(dict, rows)), name=self.name or "my-examples")

    def delete(self, *places: int) -> None:
        """Leave rows out."""
        with self._lock:
            for place in places:
                self._there(place, self.rows)
            self._change(rows=tuple(row for i, row in enumerate(self.rows) if i not in places))

    def add_keep(self, *rows: Row | str) -> int:
        """Put questions on the keep list; those that are there already are left out. Returns how many were new."""
        new: dict[str, Row] = {}
        with self._lock:
            held = {_asked(row) for row in self.keep}
            for row in rows:
                kept = _keep_row({"prompt": row} if isinstance(row, str) else row)
                if _asked(kept).strip() and _asked(kept) not in held:
                    new.setdefault(_asked(kept), kept)
            if new:
                self._change(keep=(*self.keep, *new.values()))
        return len(new)

    def set_keep(self, rows: Sequence[Row | str]) -> None:
        """Put questions in place of the whole keep list."""
        kept = [_keep_row({"prompt": row} if isinstance(row, str) else row) for row in rows]
        # One that is there twice would weigh twice.
        self._change(keep=tuple({_asked(row): row for row in kept if _asked(row).strip()}.values()))

    def undo(self) -> bool:
        """Take the last change of rows or keep list back; False if there is none."""
        with self._lock:
            before = self._undo.last()
            if before is None:
                return False
            after, self._examples = self._examples, before
            try:
                self._save_examples(after)
                with clear_disk_errors(self.folder):
                    self._undo.drop()
            except BaseException:
                self._examples = after
                raise
            self.version += 1
            return True

    # Other changes

    def set_misfits(self, misfits: Mapping[str, str]) -> None:
        """What is wrong with rows that the loaded model cannot read whole, by `written` of the row."""
        with self._lock:
            if misfits != self._misfits:
                self._misfits, self._good = dict(misfits), None
                self.version, self.marks = self.version + 1, self.marks + 1

    def set_setting(self, group: str, name: str, value: Any) -> None:
        """Choose a setting; None goes back to the model's default. Raises InputError on a wrong value or name."""
        with self._lock:
            self.choose(settings=self._choices.with_setting(group, name, value).settings)

    def choose(self, **chosen: Any) -> None:
        """Choose any of `Choices`: `choose(method="sft", run="zorbic-2")`."""
        with self._lock:
            changed = replace(self._choices, **chosen)
            if changed != self._choices:
                self._choices = changed
                self._save_about()
                self.version += 1

    def set_check(self, result: dict[str, Any] | None) -> None:
        """Keep the result of a check."""
        with self._lock:
            self._check = None if result is None else {**result, "of": result.get("of", self.fingerprint())}
            self._write("check.json", json.dumps(self._check or {}))
            self.version += 1

    def type(self, key: str, text: str | None) -> None:
        """Keep what stands in a text field. The version stays: nothing else depends on it."""
        with self._lock:
            if self._typed.get(key, "") != (text or ""):
                self._typed[key] = text or ""
                self._write("typed.json", json.dumps(self._typed))

    # Inside

    def _judged(self) -> _Judged:
        """Good rows and problems of the present rows, worked out once for each state of them."""
        with self._lock:
            rows = self._examples.rows
            if self._good is None or self._good[0] is not rows:
                said = (problem_of(dict(row)) or self._misfits.get(written(row), "") for row in rows)
                problems = {place: problem for place, problem in enumerate(said) if problem}
                good = [row_from(dict(row)) for i, row in enumerate(rows) if i not in problems]
                self._good = (rows, good, problems)
            return self._good

    def _change(self, **values: Any) -> None:
        with self._lock:
            before, after = self._examples, replace(self._examples, **values)
            if after == before:
                return
            with clear_disk_errors(self.folder):
                self._undo.push(before, after)
            self._examples = after
            try:
                self._save_examples(before)
            except BaseException:
                self._examples = before
                with contextlib.suppress(OSError):
                    self._undo.drop()
                raise
            self.version += 1

    def _save_examples(self, before: Examples) -> None:
        now = self._examples
        if now.rows is not before.rows:
            self.edition = _edition(now.rows)
        for name, rows, old in (("rows.jsonl", now.rows, before.rows), ("keep.jsonl", now.keep, before.keep)):
            if rows is not old:
                self._write(name, "".join(json.dumps(dict(row)) + "\n" for row in rows))
        self._save_about()

    def _save_about(self) -> None:
        about = {"name": self.name, "source": self.source, **asdict(self._choices)}
        self._write("draft.json", json.dumps(about, indent=1))

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all; after kill -9 the file holds the old or the new text."""
        with clear_disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f".{name}.part"
            with part.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.folder / name)

    def _read(self, name: str) -> dict[str, Any]:
        values = self._attempt(name, json.loads)
        return values if isinstance(values, dict) else {}

    def _read_lines(self, name: str) -> list[dict[str, Any]]:
        read = self._attempt(name, lambda text: [json.loads(line) for line in text.splitlines() if line.strip()])
        return [row for row in read or [] if isinstance(row, dict)]

    def _attempt(self, name: str, parse: Any) -> Any:
        """A file of the draft. One that cannot be read is put aside, never deleted."""
        path = self.folder / name
        try:
            return parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self.notice = f"{path} could not be read; it was put aside as {name}.damaged."
            with contextlib.suppress(OSError):
                os.replace(path, path.with_name(name + ".damaged"))
            return None

    def _there(self, place: int, rows: Sequence[Row]) -> None:
        if not 0 <= place < len(rows):
            raise InputError(f"There is no row {place + 1}; there are {len(rows)}.", "Choose another row.")


def _edition(rows: Sequence[Row]) -> str:
    return hashlib.sha256(json.dumps(rows, default=dict).encode()).hexdigest()[:16]


def written(row: Row) -> str:
    """A row as a text, by which an equal one is found again."""
    return json.dumps(row, sort_keys=True, default=dict)


def parted(rows: Iterable[Row]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Rows, and those for the keep list; a wrong one of these stays with the rows, where it is seen and mended."""
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        parts[row.get("keep") is True and not problem_of(dict(row))].append(row)
    return tuple(parts[0]), tuple(parts[1])


def _keep_row(row: Row) -> Row:
    """The question alone, whatever else the row holds."""
    kept: dict[str, Any] = {"prompt": row.get("prompt", ""), "keep": True}
    return {**kept, **{name: row[name] for name in ("id", "tags") if row.get(name)}}


def _asked(row: Row) -> str:
    prompt = row.get("prompt", "")
    return prompt if isinstance(prompt, str) else json.dumps(prompt)
