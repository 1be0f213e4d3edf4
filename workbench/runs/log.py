"""The events of a run: one JSON object a line, `seq` rising by one, only ever added to.

A process may die in the middle of a line. What follows the last line break is then no event; it is cut off when the
log is opened for writing. A run that goes on from a checkpoint takes some steps again; the same steps give the same
events, so those that the log holds already are not written twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.events import Event, from_dict, to_dict


class EventLog:
    """The file events.jsonl of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, after: int = 0) -> list[Event]:
        """The events whose `seq` is above `after`, oldest first; a half-written last line is passed over."""
        return [from_dict(values) for values in self.dictionaries(after)]

    def dictionaries(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """The same as dictionaries with `seq` and `event`."""
        if not self.path.exists():
            return
        for number, line in enumerate(self._lines(), start=1):
            try:
                values = json.loads(line)
                seq = values["seq"]
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(
                    f"{self.path}, line {number} is not an event: {error}.",
                    "The log is damaged; the checkpoints are not affected. Restore it from a backup.",
                ) from error
            if seq > after:
                yield values

    def _lines(self) -> list[bytes]:
        return self._whole().splitlines()

    def _whole(self) -> bytes:
        """Up to the last line break. It may be of two bytes, where a log was copied by way of another system."""
        content = self.path.read_bytes()
        return content[: content.rfind(b"\n") + 1]

    def recover(self) -> int:
        """Cut off a half-written last line, and return the last `seq` (0: the log is empty)."""
        if not self.path.exists():
            return 0
        whole = len(self._whole())
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)
        last = 0
        for values in self.dictionaries():
            last = int(values["seq"])
        return last


class EventWriter:
    """Numbers events from `seq` on and appends those that the log does not hold yet.

    Args:
        seq: how many events had happened at the point that the run goes on from.

    Attributes:
        lacks_last: whether the last of those is not in the log; it is to be written first.
    """

    def __init__(self, log: EventLog, seq: int) -> None:
        self._held = log.recover()
        self.lacks_last = self._held < seq
        self.seq = seq - self.lacks_last
        self._file = log.path.open("ab")

    def write(self, event: Event) -> None:
        """Append an event, unless it is one that was logged before an interruption."""
        self.seq += 1
        if self.seq <= self._held:
            return
        line = json.dumps({"seq": self.seq, **to_dict(event)}, ensure_ascii=False, allow_nan=False)
        self._file.write(line.encode("utf-8") + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """Make sure that the disk holds what was written."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close the file."""
        self.sync()
        self._file.close()
