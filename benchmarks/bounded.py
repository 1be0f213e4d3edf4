"""Measurements in processes of their own, none of which can hold up or end the others.

A process says what it finds as lines `MEASURED {name: [numbers]}`. What it has said counts, whatever becomes of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

MARK = "MEASURED "
SHORTEST = 10.0
"""Seconds that must be left for a process to be begun."""

LAST = 8
"""Lines of what a failed process said that are kept."""

Found = dict[str, list[float]]


class Bounded:
    """Runs processes one after another within a time of its own.

    Attributes:
        found: what each said, by the name of the measurement.
        failed: why a measurement is missing or not whole, by the same.
    """

    def __init__(self, limit: float, minutes: float) -> None:
        """Begin the time now.

        Args:
            limit: seconds for each process.
            minutes: for all together.
        """
        self._limit, self._minutes = limit, minutes
        self._end = time.monotonic() + 60 * minutes
        self.found: dict[str, Found] = {}
        self.failed: dict[str, str] = {}

    def lacks(self, name: str) -> bool:
        """Whether a measurement has not been made, or not wholly."""
        return name not in self.found or name in self.failed

    def run(self, name: str, command: Sequence[str], threads: int = 1) -> None:
        """Measure, or note why not."""
        left = self._end - time.monotonic()
        if left < SHORTEST:
            self.failed[name] = f"not begun: the {self._minutes:g} minutes were over"
            return
        allowed = min(self._limit, left)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
        reason = "interrupted"
        with (
            tempfile.TemporaryFile("w+", errors="replace") as said,
            tempfile.TemporaryFile("w+", errors="replace") as errors,
        ):
            # A group of its own, so that what it has started ends with it.
            process = subprocess.Popen(command, stdout=said, stderr=errors, env=environment, start_new_session=True)
            try:
                status = process.wait(timeout=allowed)
                reason = f"ended with status {status}" if status else ""
            except subprocess.TimeoutExpired:
                reason = f"stopped after {allowed:.0f} seconds"
            finally:
                _end(process)
                self._note(name, _text(said), reason, _text(errors))

    def _note(self, name: str, said: str, reason: str, errors: str) -> None:
        self.failed.pop(name, None)
        found = measured(said)
        if found or not reason:
            self.found.setdefault(name, {}).update(found)
        if reason:
            self.failed[name] = "\n".join([reason, *errors.strip().splitlines()[-LAST:]])


def measured(said: str) -> Found:
    """What a process said that it measured; numbers under the same name are put together."""
    found: Found = {}
    for line in said.splitlines():
        if not line.startswith(MARK):
            continue
        try:
            values = json.loads(line.removeprefix(MARK))
        except ValueError:
            continue  # it was stopped in the middle of the line
        for name, numbers in values.items():
            found.setdefault(name, []).extend(numbers)
    return found


def write(path: Path, text: str) -> None:
    """Put a file in its place, whole."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started, without waiting for one that a driver holds."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
