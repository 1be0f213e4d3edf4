"""A share with its 95% interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """`value` of `n`, with the bounds of its 95% interval."""

    value: float
    n: int
    low: float
    high: float


def share(hits: Sequence[bool]) -> Share:
    """Share of hits with the Wilson score interval (Wilson 1927), which stays inside 0 to 1 for few rows too."""
    n = len(hits)
    if n == 0:
        return Share(0.0, 0, 0.0, 1.0)
    value = sum(hits) / n
    scale = 1 + _Z**2 / n
    middle = (value + _Z**2 / (2 * n)) / scale
    half = _Z * math.sqrt(value * (1 - value) / n + _Z**2 / (4 * n * n)) / scale
    return Share(value, n, max(0.0, middle - half), min(1.0, middle + half))
