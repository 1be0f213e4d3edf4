"""A few rollouts of a step, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workbench.events import RolloutSample
from workbench.prompts import PromptTokens
from workbench.sampling import Completions

SHOWN = 2
"""Rollouts kept in each Step event."""


def show(
    tokenizer: Any, rows: Sequence[PromptTokens], answers: Completions, per_token: Tensor
) -> tuple[RolloutSample, ...]:
    """The first teaching rows of a batch, and its first keep row, with the divergence [B, T] of their tokens."""
    kept = [i for i, row in enumerate(rows) if row.row.keep]
    chosen = [*range(min(SHOWN, len(rows) - len(kept))), *kept[:1]]
    lists = answers.lists()
    samples = []
    for i in chosen:
        ids = lists[i]
        samples.append(
            RolloutSample(
                row=rows[i].row.id or "",
                prompt=rows[i].row.question,
                text=tokenizer.decode(ids, skip_special_tokens=True),
                tokens=tuple(tokenizer.decode([token]) for token in ids),
                divergence=tuple(round(float(v), 5) for v in per_token[i, : len(ids)]),
                keep=rows[i].row.keep,
            )
        )
    return tuple(samples)
