"""Student and teacher held against each other, token by token, and what was seen of a whole step.

Shapes: B answers, T completion tokens, N of them real, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from workbench.chunked import CHOICES, Compared, chunked_cross_entropy, chunked_divergence
from workbench.decoding import Predictions
from workbench.divergence import sequence_mean, token_divergence
from workbench.prompts import PromptTokens
from workbench.settings import DivergenceSettings, Settings


def compare(
    student: Predictions, teacher: Predictions, mask: Tensor, settings: Settings, ask: Tensor | None = None
) -> Compared:
    """D(teacher, student) [B, T] at each token where `mask` is 1, as the settings say; elsewhere 0.

    Args:
        ask: [B, T], True at the tokens of which the first choices are wanted.
    """
    return _compare(student, teacher, mask, settings.divergence, ask)


def drift(student: Predictions, base: Predictions, mask: Tensor) -> Tensor:
    """KL(base || student) [B, T] on the same answers, both reading the question alone."""
    return _compare(student, base, mask, DivergenceSettings()).per_token


def _compare(
    student: Predictions, teacher: Predictions, mask: Tensor, chosen: DivergenceSettings, ask: Tensor | None = None
) -> Compared:
    real = mask.bool()
    own, other = student.values[real], teacher.values[real]
    asked = None if ask is None else ask[real]
    how = {
        "kind": chosen.divergence,
        "beta": chosen.beta,
        "top_k": chosen.support_size,
        "support": chosen.support,
        "tail": chosen.tail,
        "clip": chosen.clip or None,
        "temperature": chosen.loss_temperature,
    }
    if student.head is not None and teacher.head is not None:
        found = chunked_divergence(own, student.head, other, teacher.head, ask=asked, **how)  # type: ignore[arg-type]
    else:
        # How this model comes from hidden states to logits is not known: whole logits, by autograd.
        own, other = student.logits()[real].float(), teacher.logits()[real].float()
        per_token = token_divergence(own[None], other[None], **how)[0]  # type: ignore[arg-type]
        found = _look(per_token, own.detach(), other, asked)
    return _spread(found, real)


def say(student: Predictions, targets: Tensor, mask: Tensor) -> Compared:
    """Cross-entropy [B, T] of the target tokens where `mask` is 1, elsewhere 0."""
    real = mask.bool()
    if student.head is not None:
        return _spread(chunked_cross_entropy(student.values[real], student.head, targets[real]), real)
    logits = student.logits()[real].float()
    per_token = torch.nn.functional.cross_entropy(logits, targets[real], reduction="none")
    found = _look(per_token, logits.detach(), None, None)
    return _spread(replace(found, agrees=logits.argmax(-1) == targets[real]), real)


@torch.no_grad()
def _look(per_token: Tensor, student: Tensor, teacher: Tensor | None, asked: Tensor | None) -> Compared:
    log_p = student.log_softmax(-1)
    best = [
        None if logits is None or asked is None else logits[asked].softmax(-1).topk(min(CHOICES, logits.shape[-1]), -1)
        for logits in (student, teacher)
    ]
    pairs = [None if b is None else (b.indices, b.values) for b in best]
    agrees = student.argmax(-1) == (student if teacher is None else teacher).argmax(-1)
    return Compared(per_token, -(log_p.exp() * log_p).sum(-1), agrees, *pairs)


def _spread(found: Compared, real: Tensor) -> Compared:
    """Values [N] of real tokens at their places [B, T]."""

    def placed(values: Tensor) -> Tensor:
        return torch.zeros(real.shape, dtype=values.dtype, device=real.device).masked_scatter(real, values)

    return replace(found, per_token=placed(found.per_token), entropy=placed(found.entropy), agrees=placed(found.agrees))


@dataclass(frozen=True, slots=True)
class Means:
    """What the two distributions look like on the counted tokens of a step (means over tokens).

    Attributes:
        divergence: nats per token.
        entropy: the student's, nats per token.
        agreement: share of tokens at which student and teacher have the same first choice.
        tokens: how many tokens were counted.
    """

    divergence: float
    entropy: float
    agreement: float
    tokens: int


class Seen:
    """What was seen of a step's answers, part by part.

    Args:
        counted: [B, T], 1 at the tokens that count in the loss.
    """

    def __init__(self, counted: Tensor) -> None:
        self.counted = counted
        self.per_token = torch.zeros(counted.shape, device=counted.device)
        self._entropy = torch.zeros(counted.shape, device=counted.device)
        self._agrees = torch.zeros(counted.shape, device=counted.device)
        self._choices: list[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]] = []
        self.loss = 0.0

    def add(self, part: slice, found: Compared, loss: float) -> None:
        """Take in what was found at these answers, and their part of the loss."""
        self.loss += loss
        columns = slice(found.per_token.shape[1])
        self.per_token[part, columns] = found.per_token.detach().float()
        self._entropy[part, columns] = found.entropy.float()
        self._agrees[part, columns] = found.agrees.float()
        if found.student is not None and found.teacher is not None:
            self._choices.append((found.student, found.teacher))

    @classmethod
    def of(cls, counted: Tensor, per_token: Tensor, entropy: Tensor, agrees: Tensor, choices: list[Any]) -> Seen:
        """From the parts that `tensors` and `choices_by_part` give."""
        made = cls(counted)
        made.per_token, made._entropy, made._agrees, made._choices = per_token, entropy, agrees, choices
        return made

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Counted, divergence, entropy and agreement, [B, T] each."""
        return self.counted, self.per_token, self._entropy, self._agrees

    def choices_by_part(self) -> list[Any]:
        """First choices of student and teacher as they were added, in the computer's memory."""
        return [tuple(tuple(t.cpu() for t in side) for side in pair) for pair in self._choices]

    def means(self) -> Means:
        """Over the counted tokens."""
        counted = self.counted.bool()
        tokens = int(counted.sum())
        if tokens == 0:
            return Means(0.0, 0.0, 0.0, 0)
        values = torch.stack([v[counted].mean() for v in (self.per_token, self._entropy, self._agrees)]).tolist()
        return Means(values[0], values[1], values[2], tokens)

    def keep_loss(self, rows: Sequence[PromptTokens]) -> float | None:
        """Mean divergence of the batch's keep rows, None without any."""
        kept = [i for i, row in enumerate(rows) if row.row.keep]
        return float(sequence_mean(self.per_token[kept], self.counted[kept])) if kept else None

    def choices(self) -> list[tuple[Tensor, Tensor]]:
        """(ids, probabilities) [M, 5] of the student's and of the teacher's first choices where they were asked for."""
        roles = ([pair[role] for pair in self._choices] for role in (0, 1))
        return [(torch.cat([i for i, _ in found]), torch.cat([p for _, p in found])) for found in roles]
