"""Which rows a step sees: a function of the seed and the step's number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.models import LoadedModel
from workbench.prompts import Prompts, PromptTokens
from workbench.roles import Roles
from workbench.settings import Settings


def stream(count: int, start: int, size: int, seed: int) -> list[int]:
    """Positions start ... start + size of an endless stream that shuffles `count` rows anew for each pass."""
    chosen: list[int] = []
    for position in range(start, start + size):
        epoch, place = divmod(position, count)
        if place == 0 or not chosen:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)).tolist()
        chosen.append(order[place])
    return chosen


def step_seed(seed: int, step: int) -> int:
    """The seed of a step's random numbers."""
    return (seed * 2_654_435_761 + step * 40_503 + 12_345) % 2**63


@dataclass(frozen=True)
class Plan:
    """The rows of a run, tokenised once, and how they are dealt out."""

    teaching: list[PromptTokens]
    keep: list[PromptTokens]
    settings: Settings

    @property
    def prompts(self) -> int:
        """Prompts in each batch."""
        return self.settings.prompts

    @property
    def keep_rows(self) -> int:
        """Keep rows in each batch, counted in prompts."""
        if not self.keep:
            return 0
        return min(self.prompts - 1, max(1, round(self.prompts * self.settings.keep.keep_share)))

    def batch(self, step: int) -> list[PromptTokens]:
        """The rows of step 0, 1, ...: teaching rows first, then keep rows."""
        prompts, kept = self.prompts, self.keep_rows
        seed = self.settings.optim.seed
        rows = stream(len(self.teaching), step * (prompts - kept), prompts - kept, seed)
        chosen = [self.teaching[i] for i in rows]
        if kept:
            chosen += [self.keep[i] for i in stream(len(self.keep), step * kept, kept, seed + 1)]
        return chosen


def refuse_unteachable(teaching: Sequence[Demonstration], keep: Sequence[Demonstration], settings: Settings) -> None:
    """Refuse rows that no model could be taught with by these settings.

    Raises:
        InputError: no row to teach; a row without a demonstration; keep rows with no place in a batch of one.
    """
    if not teaching:
        raise InputError("There is no row to teach.", "Add at least one row with a prompt and a demonstration.")
    bare = [i for i, row in enumerate(teaching, 1) if row.demonstration is None and row.context is None]
    if bare:
        raise InputError(
            f"{len(bare)} of {len(teaching)} rows to teach have neither a demonstration nor a context, so the teacher "
            f"would read what the student reads (the first is row {bare[0]}).",
            "Give each a demonstration; what the model should go on saying belongs among the keep rows.",
        )
    if keep and settings.keep.keep_share > 0 and settings.prompts < 2:
        raise InputError("A batch of one prompt has no place for keep rows.", "Raise --batch, or lower --rollouts.")


def make_plan(
    roles: Roles, teaching: Sequence[Demonstration], keep: Sequence[Demonstration], settings: Settings
) -> Plan:
    """Tokenise and check every row before the first step.

    Raises:
        InputError: rows that cannot be taught (see `refuse_unteachable`); a row that does not fit the model.
    """
    refuse_unteachable(teaching, keep, settings)
    loaded = roles.loaded
    prompts = make_prompts(loaded.tokenizer, settings)
    room = settings.rollout.max_new_tokens
    # A row with a demonstration would be taught.
    keep = [row.to_keep() for row in keep] if settings.keep.keep_share > 0 else ()
    return Plan(
        prompts.tokenise_all(teaching, loaded.longest, room),
        prompts.tokenise_all(keep, loaded.longest, room),
        settings,
    )


def make_prompts(tokenizer: Any, settings: Settings) -> Prompts:
    """The renderer of prompts with the run's teacher template."""
    template = settings.teacher.template
    return Prompts(tokenizer, template) if template else Prompts(tokenizer)


def refuse_unreadable(rows: Sequence[Demonstration], loaded: LoadedModel, settings: Settings) -> None:
    """Refuse rows that do not fit the model, in the order of their file.

    Once they are split a row without an id could only be called by its place on its side, which is another row's.

    Raises:
        InputError: see `Prompts.tokenise_all`.
    """
    make_prompts(loaded.tokenizer, settings).tokenise_all(rows, loaded.longest, settings.rollout.max_new_tokens)
