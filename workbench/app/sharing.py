"""What is the same for every page that polls: made once for each state of the world, for however many viewers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_KEPT = 64

Thing = TypeVar("Thing")


class Made:
    """What was made last. Every method may be called from any thread.

    Only what nobody changes may be kept: texts and tuples, and no update for Gradio, which takes those apart.
    """

    def __init__(self) -> None:
        self._made: OrderedDict[Hashable, Any] = OrderedDict()
        # What is being made is waited for, so that ten pages at once do not make it ten times; parts hold parts.
        self._lock = threading.RLock()

    def once(self, part: str, state: Hashable | None, make: Callable[[], Thing]) -> Thing:
        """What `make` gave for this part in this state; None is a state that nobody knows, and makes it anew."""
        if state is None:
            return make()
        with self._lock:
            key = part, state
            if key not in self._made:
                self._made[key] = make()
                while len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            made: Thing = self._made[key]
            return made
