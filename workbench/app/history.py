"""What undo takes back, in memory and on disk, so that it outlives a restart. No Gradio here.

A line of the file leads from one state of the examples to the one before it: it holds only what differed, and a mark of
the state that it applies to. A process that is killed between writing this file and writing the rows leaves a line that
applies to another state than the one on disk; it is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
"""Plain values by field, as `Demonstration.to_dict`; a row that is wrong holds what was entered. Never changed in
place."""

UNDO = 200
"""How many changes of rows and keep list can be taken back."""

SIZE = 32_000_000
"""Bytes of the file from which on its older half is dropped."""


@dataclass(frozen=True, slots=True)
class Examples:
    """What undo takes back."""

    rows: tuple[Row, ...] = ()
    keep: tuple[Row, ...] = ()
    name: str = ""
    source: str = ""


class History:
    """The states before the present one. The caller holds a lock and takes care of what the disk raises.

    Args:
        path: the file.
        present: the state that was read from disk; what leads to another one is passed over.
    """

    def __init__(self, path: Path, present: Examples, longest: int = UNDO, size: int = SIZE) -> None:
        self._path, self._size = path, size
        self._states: deque[Examples] = deque(maxlen=longest)
        self._lines: deque[bytes] = deque(maxlen=longest)
        self._read(present)

    def __len__(self) -> int:
        return len(self._states)

    def push(self, before: Examples, after: Examples) -> None:
        """Note a change, before the state after it is written."""
        line = json.dumps(_way_back(before, after), default=dict).encode() + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            end = file.tell()
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
        self._states.append(before)
        self._lines.append(line)
        if end + len(line) > self._size:
            while len(self._lines) > 1 and sum(map(len, self._lines)) > self._size // 2:
                self._states.popleft()
                self._lines.popleft()
            self._write()

    def last(self) -> Examples | None:
        """The state before the present one."""
        return self._states[-1] if self._states else None

    def drop(self) -> None:
        """Forget the last change: it was taken back, or did not come about."""
        self._states.pop()
        self._lines.pop()
        self._write()

    def _read(self, present: Examples) -> None:
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except OSError:
            return
        for line in reversed(lines):
            if len(self._states) == self._states.maxlen:
                break
            try:
                before = _back(json.loads(line), present)
            except (ValueError, TypeError, KeyError):
                continue  # cut off by a kill
            if before is not None:
                self._states.appendleft(before)
                self._lines.appendleft(line)
                present = before

    def _write(self) -> None:
        part = self._path.with_name(f".{self._path.name}.part")
        with part.open("wb") as file:
            file.writelines(self._lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._path)


def _way_back(before: Examples, after: Examples) -> dict[str, Any]:
    return {
        "from": _mark(after),
        "name": before.name,
        "source": before.source,
        "rows": _difference(before.rows, after.rows),
        "keep": _difference(before.keep, after.keep),
    }


def _back(way: dict[str, Any], after: Examples) -> Examples | None:
    """The state before `after`; None if this is the way from another one."""
    if way["from"] != _mark(after):
        return None
    rows, keep = _without(way["rows"], after.rows), _without(way["keep"], after.keep)
    return Examples(rows, keep, str(way["name"]), str(way["source"]))


def _difference(before: Sequence[Row], after: Sequence[Row]) -> list[Any]:
    """How many rows at the beginning and at the end stayed, and what was between them."""
    shorter = min(len(before), len(after))
    head = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    rest = shorter - head
    tail = next((i for i in range(rest) if before[-1 - i] != after[-1 - i]), rest)
    return [head, tail, list(before[head : len(before) - tail])]


def _without(difference: list[Any], after: tuple[Row, ...]) -> tuple[Row, ...]:
    head, tail, between = difference
    return (*after[:head], *between, *after[len(after) - tail :])


def _mark(state: Examples) -> str:
    parts = [state.rows, state.keep, state.name, state.source]
    return hashlib.sha256(json.dumps(parts, default=dict).encode()).hexdigest()[:16]
