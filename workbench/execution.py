"""How a run's steps are carried out, as far as that is not part of the method.

Another `Execution` gives the same steps up to rounding, in less memory and more time. It is kept in the run's
config.json beside the settings: a resumed run rounds as the first part did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from workbench.errors import InputError

ROW = 2048
"""Most tokens of answers in one row."""

QUESTIONS = 128
"""Most questions that are answered together where a model is measured."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How many answers of a step are worked on at a time, and what is kept from one step to the next.

    Attributes:
        micro_batch: answers in one pass of teacher and student (0: all of the step's).
        at_once: answers that are sampled together (0: all of the step's).
        checkpointing: compute each layer's activations again in the backward pass instead of keeping them.
        prefix_bytes: most bytes of keys and values of prompts that are read once in a run instead of once a step,
            as a teacher's can be that does not change.
        questions: questions that are answered together where the model is measured, as far as `at_once` allows.
    """

    micro_batch: int = 0
    at_once: int = 0
    checkpointing: bool = False
    prefix_bytes: int = 512_000_000
    questions: int = QUESTIONS

    def __post_init__(self) -> None:
        for name in ("micro_batch", "at_once"):
            if getattr(self, name) < 0:
                flag = "--" + name.replace("_", "-")
                raise InputError(f"{flag} is {getattr(self, name)}.", f"Give {flag} 1 or more, or 0 for all at a time.")

    def sampled(self, answers: int) -> list[slice]:
        """The answers of a step in the groups in which they are sampled."""
        return _parts(answers, self.at_once)

    def passes(self, answers: int) -> list[slice]:
        """The answers of a step in the groups that go through teacher and student together."""
        return _parts(answers, self.micro_batch)

    @property
    def asked(self) -> int:
        """How many questions are answered together: never more than answers of a step are sampled together."""
        return min(self.questions, self.at_once or self.questions)

    def halved(self, answers: int, sampling: bool) -> Execution | None:
        """Half as many at a time, while sampling or while learning; None if it is one already."""
        now = min((self.at_once if sampling else self.micro_batch) or answers, answers)
        if now <= 1:
            return None
        return replace(self, at_once=now // 2) if sampling else replace(self, micro_batch=now // 2)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Execution:
        """The inverse of `to_dict`; what another version wrote besides is left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def answers_in_a_row(rollouts: int, tokens: int) -> int:
    """How many answers of so many tokens to one prompt lie behind it in one row, where a layer may keep no cache.

    Attention between them is computed and masked, so it is as many as fit into `ROW`, and as many in each.
    """
    return next(n for n in range(rollouts, 0, -1) if rollouts % n == 0 and (n == 1 or n * tokens <= ROW))


def _parts(answers: int, size: int) -> list[slice]:
    size = size or answers
    return [slice(start, min(start + size, answers)) for start in range(0, answers, size)]
