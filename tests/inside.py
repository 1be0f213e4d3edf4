"""A worker's service in a thread of this process, so that a test can step in between two of its replies."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

from workbench.worker.client import Call
from workbench.worker.protocol import from_line, to_line
from workbench.worker.service import Service

LIMIT = 120
QUESTION = [{"role": "user", "content": "How do you say red ball in Zorbic?"}]


class Inside:
    """A service in a thread of this process, spoken to in the protocol's lines."""

    def __init__(self, runs: Path, model: Path) -> None:
        self.lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.calls: dict[int, Call] = {}
        self.status: list[dict[str, Any]] = []
        self.watch: list[Any] = []
        self.service = Service(runs, self)  # type: ignore[arg-type]
        first = {"model": str(model)}
        self.thread = threading.Thread(target=self.service.run, args=(iter(self.lines.get, None), first))
        self.thread.start()

    def write(self, line: bytes) -> None:
        reply = from_line(line)
        if reply["id"]:
            self.calls[reply["id"]]._add(reply)
        elif reply["reply"] == "status":
            self.status.append(reply)
        for watcher in self.watch:
            watcher(reply)

    def flush(self) -> None:
        pass

    def call(self, do: str, /, **arguments: Any) -> Call:
        number = len(self.calls) + 1
        self.calls[number] = call = Call(number)
        self.lines.put(to_line({"id": number, "do": do, **arguments}))
        return call

    def do(self, do: str, /, **arguments: Any) -> dict[str, Any]:
        return self.call(do, **arguments).result(LIMIT)

    def close(self) -> None:
        self.lines.put(None)
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
