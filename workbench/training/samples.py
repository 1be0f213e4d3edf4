"""A few rollouts of a step, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from workbench.chunked import CHOICES
from workbench.events import RolloutSample, TokenChoices
from workbench.prompts import PromptTokens
from workbench.sampling import Completions

SHOWN = 2
"""Rollouts kept in each Step event."""

CHOSEN_AT = 96
"""At how many tokens of an answer the first choices of student and teacher are kept."""

_texts: WeakKeyDictionary[Any, dict[int, str]] = WeakKeyDictionary()


def shown(rows: Sequence[PromptTokens]) -> list[int]:
    """Which rows of a batch are shown: the first teaching rows, and the first keep row."""
    kept = [i for i, row in enumerate(rows) if row.row.keep]
    return [*range(min(SHOWN, len(rows) - len(kept))), *kept[:1]]


def asked(rows: Sequence[PromptTokens], mask: Tensor, first: int = 0) -> Tensor:
    """[B, T], True at the tokens of shown rows at which first choices are kept.

    Args:
        first: which of the step's rows the mask begins with, where it is of some.
    """
    chosen = torch.zeros_like(mask, dtype=torch.bool)
    chosen[[i - first for i in shown(rows) if 0 <= i - first < len(mask)], :CHOSEN_AT] = True
    return chosen & mask.bool()


def show(
    tokenizer: Any,
    rows: Sequence[PromptTokens],
    answers: Completions,
    per_token: Tensor,
    choices: Sequence[tuple[Tensor, Tensor]],
) -> tuple[RolloutSample, ...]:
    """The shown rows with the divergence [B, T] of their tokens, and what student and teacher considered there.

    Args:
        choices: of student and teacher, (ids, probabilities) [M, 5] at the M tokens that `asked` names.
    """
    lists = answers.lists()
    pairs = [_named(tokenizer, *found) for found in choices]
    samples, start = [], 0
    for i in shown(rows):
        ids = lists[i]
        end = start + min(len(ids), CHOSEN_AT)
        samples.append(
            RolloutSample(
                row=rows[i].row.id or "",
                prompt=rows[i].row.question,
                text=tokenizer.decode(ids, skip_special_tokens=True),
                tokens=tuple(tokenizer.decode([token]) for token in ids),
                divergence=tuple(round(float(v), 5) for v in per_token[i, : len(ids)]),
                keep=rows[i].row.keep,
                choices=tuple(TokenChoices(*both) for both in zip(*(p[start:end] for p in pairs), strict=True)),
            )
        )
        start = end
    return tuple(samples)


@torch.no_grad()
def choices_at(tokenizer: Any, student_logits: Tensor, teacher_logits: Tensor) -> tuple[TokenChoices, ...]:
    """The five likeliest tokens of both at each token of one answer, from their logits [T, V]."""
    pairs = []
    for logits in (student_logits, teacher_logits):
        best = logits[:CHOSEN_AT].detach().float().softmax(-1).topk(min(CHOICES, logits.shape[-1]), -1)
        pairs.append(_named(tokenizer, best.indices, best.values))
    return tuple(TokenChoices(student, teacher) for student, teacher in zip(*pairs, strict=True))


def _named(tokenizer: Any, indices: Tensor, probabilities: Tensor) -> list[tuple[tuple[str, float], ...]]:
    """Tokens as text, with their probabilities, for ids and probabilities [M, 5]."""
    # A tokenizer takes longer over a thousand tokens than the rest of this; there are not many different ones.
    known = _texts.setdefault(tokenizer, {})
    found = []
    for ids, shares in zip(indices.tolist(), probabilities.tolist(), strict=True):
        for token in ids:
            if token not in known:
                known[token] = tokenizer.decode([token])
        found.append(tuple((known[t], round(p, 3)) for t, p in zip(ids, shares, strict=True)))
    return found
