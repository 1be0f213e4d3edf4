"""Seconds by phase of a step."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Counts from its making; each `lap` names the time since the one before."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Give the time since the last lap to `phase`."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + now - self._last, 6)
        self._last = now
