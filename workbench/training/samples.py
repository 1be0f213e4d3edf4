"""A few rollouts of a step, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from workbench.events import RolloutSample, TokenChoices
from workbench.prompts import PromptTokens
from workbench.sampling import Completions

SHOWN = 2
"""Rollouts kept in each Step event."""

CHOICES, CHOSEN_AT = 5, 96
"""First choices of student and teacher that are kept, and at how many tokens of an answer."""

_texts: WeakKeyDictionary[Any, dict[int, str]] = WeakKeyDictionary()


def show(
    tokenizer: Any,
    rows: Sequence[PromptTokens],
    answers: Completions,
    per_token: Tensor,
    student_logits: Tensor,
    teacher_logits: Tensor,
) -> tuple[RolloutSample, ...]:
    """The first teaching rows of a batch, and its first keep row, with the divergence [B, T] of their tokens.

    What else student and teacher considered there is read off their logits [B, T, V].
    """
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
                choices=choices_at(tokenizer, student_logits[i, : len(ids)], teacher_logits[i, : len(ids)]),
            )
        )
    return tuple(samples)


@torch.no_grad()
def choices_at(tokenizer: Any, student_logits: Tensor, teacher_logits: Tensor) -> tuple[TokenChoices, ...]:
    """The five likeliest tokens of both at each token of one answer, from their logits [T, V]."""
    pairs = [_first_choices(tokenizer, logits[:CHOSEN_AT].detach()) for logits in (student_logits, teacher_logits)]
    return tuple(TokenChoices(student, teacher) for student, teacher in zip(*pairs, strict=True))


def _first_choices(tokenizer: Any, logits: Tensor) -> list[tuple[tuple[str, float], ...]]:
    best = logits.float().softmax(-1).topk(min(CHOICES, logits.shape[-1]), -1)
    # A tokenizer takes longer over a thousand tokens than the rest of this; there are not many different ones.
    known = _texts.setdefault(tokenizer, {})
    found = []
    for ids, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        for token in ids:
            if token not in known:
                known[token] = tokenizer.decode([token])
        found.append(tuple((known[t], round(p, 3)) for t, p in zip(ids, probabilities, strict=True)))
    return found
