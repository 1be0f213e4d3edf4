"""Ctrl-C while something long is under way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from workbench.commands import screen


class Interrupt:
    """Ctrl-C once: finish what must be finished and say how to go on. Twice: the usual end.

    Args:
        words: said at the first.
    """

    def __init__(self, words: str) -> None:
        self.asked = False
        self._words = words

    def __call__(self) -> bool:
        return self.asked

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Answer SIGINT and SIGTERM meanwhile."""

        def note(number: int, frame: object) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            screen.say(self._words)

        try:
            before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: whoever runs us there answers signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
