"""Which rows teach, and which are kept back to test what was learned."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.demonstrations.record import Demonstration
from workbench.errors import InputError

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Split:
    """The sides of a split, each in the order of the file. Keep rows are apart."""

    teaching: tuple[Demonstration, ...]
    held_out: tuple[Demonstration, ...]
    keep: tuple[Demonstration, ...]


def split(rows: Sequence[Demonstration], held_out: float = 0.3, seed: int = 0) -> Split:
    """Split rows by their prompts: the same seed gives the same split, and equal prompts stay together.

    Args:
        held_out: share of different prompts to keep back; at least one stays on each side.

    Raises:
        InputError: fewer than two different prompts, or a share that is not between 0 and 1.
    """
    if not 0 < held_out < 1:
        raise InputError(f"The held-out share is {held_out}.", "Give --held-out a number between 0 and 1, such as 0.3.")
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if not row.keep:
            groups.setdefault(_fold(row), []).append(index)
    if not groups:
        raise InputError("Every row is a keep row; there is nothing to teach.", "Add rows with a demonstration.")
    if len(groups) == 1:
        count = len(next(iter(groups.values())))
        said = "There is only one row" if count == 1 else f"All {count} rows ask the same question"
        raise InputError(
            f"{said}; at least two different questions are needed, one to teach and one to test.",
            "Add rows with other questions; some thirty are a good start.",
        )
    keys = sorted(groups)
    random.Random(seed).shuffle(keys)
    kept_back = min(len(keys) - 1, max(1, round(len(keys) * held_out)))
    test = {index for key in keys[:kept_back] for index in groups[key]}
    return Split(
        teaching=tuple(r for i, r in enumerate(rows) if not r.keep and i not in test),
        held_out=tuple(r for i, r in enumerate(rows) if i in test),
        keep=tuple(r for r in rows if r.keep),
    )


def repetition(rows: Sequence[Demonstration]) -> str:
    """A sentence about rows that say the same as an earlier one, which weigh more than others; empty without any."""
    different = {(_fold(row), row.demonstration, row.context, row.keep) for row in rows}
    count = len(rows) - len(different)
    if not count:
        return ""
    if count == 1:
        return "1 row says the same as an earlier one, and counts again."
    return f"{count} rows say the same as an earlier one, and count again."


def contradiction(rows: Sequence[Demonstration]) -> str:
    """A sentence about questions that are both taught another answer and to keep theirs; empty without any."""
    kept = [row for row in rows if row.keep]
    taught = {_fold(row) for row in rows if not row.keep} if kept else set()
    both = list(dict.fromkeys(row.question.strip() for row in kept if _fold(row) in taught))
    if not both:
        return ""
    first = both[0] if len(both[0]) <= _SHOWN else both[0][:_SHOWN] + "..."
    are = "1 question is" if len(both) == 1 else f"{len(both)} questions are"
    return f"{are} both taught and to be kept as before, which pulls both ways: take {first!r} out of one of the two."


def _fold(row: Demonstration) -> str:
    """A prompt with the differences taken out that a reader would not see."""
    texts = [row.prompt] if isinstance(row.prompt, str) else [m["role"] + ": " + m["content"] for m in row.prompt]
    return "\n".join(" ".join(unicodedata.normalize("NFC", text).split()) for text in texts)
