"""What a recipe is: where its data lie, what becomes of their columns, how it is taught and scored."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.demonstrations import Demonstration
from workbench.settings import Settings

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows as published, by the name of their source."""

RELEASED = "https://github.com/Continual-Intelligence/Self-Distillation/raw/main/data"
"""The paper's released data (science, tool use), Arrow files beside its code.

The repository's README says so, as copied on 2026-04-07 in kyrylogy/sdft-replication. No commit could be verified
from here, so none is pinned: the run keeps the SHA-256 of the rows that it read.
"""

BASE_PRIOR = {
    "hellaswag": 62.0,
    "humaneval": 65.8,
    "ifeval": 74.3,
    "mmlu": 71.7,
    "truthfulqa": 47.9,
    "winogrande": 71.1,
}
"""What the paper reports for Qwen2.5-7B-Instruct before any teaching, in per cent (table 5)."""


@dataclass(frozen=True, slots=True)
class Source:
    """One published file.

    Attributes:
        place: a Hugging Face data set's id, or the address of a folder.
        file: the file's path there, and in a folder of one's own (`--data DIR`).
        columns: those that the recipe reads; a file that lacks one is refused.
        revision: the commit that was checked; None: the one found is kept in the run.
        optional: not published; read from a folder of one's own where it is there.
    """

    place: str
    file: str
    kind: Literal["arrow", "json", "parquet"]
    columns: tuple[str, ...]
    revision: str | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """A recipe's data as demonstrations.

    Attributes:
        validation: rows that the checkpoint is chosen by; never the test's.
        other: questions that need what was taught without asking for it (out of distribution), where there are any.
        notes: what was left out and why, with numbers.
    """

    teaching: list[Demonstration]
    validation: list[Demonstration]
    test: list[Demonstration]
    other: list[Demonstration] = field(default_factory=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """One task of the paper.

    Attributes:
        data: what it is taught with, in a sentence, with licence and size as far as known.
        missing: what is not public, and what stands in for it.
        rows: tables, seed -> rows.
        scores: what is reported, by name, and the scorer that stands for it; `judge` asks the untaught model.
        validated_by: the scorer of the validation rows.
        epochs: passes over the teaching rows, by method (the paper's best).
        paper: what the paper reports, in per cent, by score and model (7B, every weight taught).
    """

    name: str
    title: str
    data: str
    licence: str
    size: str
    missing: str
    sources: Mapping[str, Source]
    rows: Callable[[Tables, int], Rows]
    scores: Mapping[str, str]
    validated_by: str
    epochs: Mapping[str, int]
    max_new_tokens: int
    paper: Mapping[str, Mapping[str, float]]

    def settings(self, method: str, teaching: int, given: Mapping[str, Mapping[str, Any]]) -> Settings:
        """The paper's settings adapted to LoRA, with what a person asked for over them.

        Batch 32, AdamW without weight decay, 10 warm-up steps, cosine, gradients cut at length 1, one rollout at
        temperature 1, the first 3 tokens out of the loss: the paper's. The adapter's learning rate of 1e-4 and the
        frozen base as teacher are ours: full fine-tuning takes 5e-6 to 5e-5 and an average of the student
        (docs/recipes.md).

        Args:
            teaching: rows to teach.
            given: values by group and name.
        """
        batch = int(given.get("optim", {}).get("batch", 32))
        prompts = max(1, batch // max(1, int(given.get("rollout", {}).get("rollouts", 1))))
        own: dict[str, dict[str, Any]] = {
            "optim": {"batch": batch, "steps": max(1, math.ceil(self.epochs[method] * teaching / prompts))},
            "rollout": {"max_new_tokens": self.max_new_tokens},
        }
        groups = {group: {**own.get(group, {}), **given.get(group, {})} for group in {*own, *given}}
        return Settings.from_dict(groups)


def hold_back(
    rows: Sequence[Demonstration], share: float, most: int, seed: int
) -> tuple[list[Demonstration], list[Demonstration]]:
    """Rows to teach, and a random `share` of them (at most `most`, at least one) to choose the checkpoint by."""
    count = min(most, max(1, round(share * len(rows)))) if len(rows) > 1 else 0
    held = set(random.Random(seed).sample(range(len(rows)), count))
    return [r for i, r in enumerate(rows) if i not in held], [r for i, r in enumerate(rows) if i in held]


def is_text(*values: object) -> bool:
    """All are text that says something."""
    return all(isinstance(value, str) and value.strip() for value in values)
