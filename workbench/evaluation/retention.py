"""Retention: of what the model could do before, how much can it still do?

Probes are questions with answers that have nothing to do with what is taught. The base answers them before training;
only those it gets right count, and retention is the share of them that the student still gets right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from workbench.decoding import Decoder
from workbench.demonstrations import Demonstration, read_questions
from workbench.evaluation.exam import Exam, Sitting, measure
from workbench.evaluation.scoring import Scorer
from workbench.events import Measure
from workbench.groups import Groups
from workbench.models import LoadedModel
from workbench.pocket import PROBES
from workbench.prompts import Prompts

GENERAL = Path(__file__).parent / "probes" / "general.jsonl"
"""Questions of general ability written for this project, for models other than the pocket."""


def bundled_probes(is_pocket: bool) -> Path:
    """The probe file that comes with the workbench for this model."""
    return PROBES if is_pocket else GENERAL


def read_bundled(loaded: LoadedModel) -> list[Demonstration]:
    """The bundled probes for this model."""
    return list(read_questions(bundled_probes(loaded.is_pocket), need_answer=True).rows)


class Retention:
    """The probes of one run. The base sits them once, when this is made.

    Attributes:
        base: what the base answered.
        measured: share of all probes that the base gets right.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        base: Decoder,
        prompts: Prompts,
        probes: Sequence[Demonstration],
        *,
        scorer: str | Scorer = "contains",
        longest: int,
        should_stop: Callable[[], bool] = bool,
        groups: Groups | None = None,
    ) -> None:
        self.exam = Exam(loaded, prompts, probes, scorer=scorer, longest=longest, groups=groups)
        self.base: Sitting = self.exam.sit(base, should_stop=should_stop)
        self.measured: Measure | None = self.base.measure if self.exam.size else None

    @property
    def known(self) -> int:
        """How many probes the base gets right: what can be forgotten."""
        return sum(self.base.hits)

    def of(self, student: Decoder, should_stop: Callable[[], bool] = bool) -> Measure | None:
        """Share of the known probes that the student still gets right; None if the base knew none."""
        if self.known == 0:
            return None
        sitting = self.exam.sit(student, should_stop=should_stop)
        return measure([now for before, now in zip(self.base.hits, sitting.hits, strict=True) if before])
