"""The questions of the page Compare that are being answered, so that they can be stopped. No Gradio here."""

from __future__ import annotations

import threading

from workbench.worker import Call, Worker


class UnderWay:
    """Calls by the page that asked. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[tuple[str, Call]] = []
        self._ended: Worker | None = None

    def add(self, by: str, *calls: Call | None) -> None:
        """The page `by` has asked these; None is no call."""
        with self._lock:
            going = [(page, call) for page, call in self._calls if not call.done()]
            self._calls = [*going, *((by, call) for call in calls if call is not None)]
            ended = self._ended
        if ended is not None:
            self.stop(ended, None)

    def of(self, by: str | None) -> list[Call]:
        """What the page `by` waits for; all that is asked if the page has asked nothing itself, as after a refresh."""
        with self._lock:
            return [call for page, call in self._calls if by in (None, page) and not call.done()]

    def stop(self, worker: Worker, by: str | None) -> None:
        """Have these end, whatever else the worker does."""
        for call in self.of(by):
            worker.stop(call)

    def end(self, worker: Worker) -> None:
        """Have all of these end, and whatever is asked from now on: a handler may be just about to ask."""
        with self._lock:
            self._ended = worker
        self.stop(worker, None)
