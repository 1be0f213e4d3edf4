"""How far the student's next-token distribution is from the teacher's, token by token.

Forward KL is KL(teacher || student), reverse KL is KL(student || teacher); generalised JSD mixes both through
m = (1 - beta) student + beta teacher: beta KL(teacher || m) + (1 - beta) KL(student || m). The paper's derivation is
for reverse KL (eq. 1); its results were produced with forward KL over the full vocabulary, which is the default.

Shapes: B rows, T completion tokens, V vocabulary, K tokens of the support.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["forward", "reverse", "jsd"]
Support = Literal["teacher", "student"]

# The mass outside the support is kept this far from zero, so that its logarithm stays finite.
_LEAST_TAIL = -1e-7


def token_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    kind: Kind = "forward",
    beta: float = 0.5,
    top_k: int = 0,
    support: Support = "teacher",
    tail: bool = True,
    clip: float | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Divergence [B, T] in nats at each token, differentiable in the student's logits [B, T, V].

    Args:
        kind: forward KL, reverse KL or generalised JSD with weight `beta` of the teacher (0 < beta < 1).
        top_k: compare on the K most likely tokens only (0: full vocabulary).
        support: whose K most likely tokens.
        tail: add one bucket for the mass outside the support; without it both are renormalised on the support.
        clip: most that one vocabulary entry may add to the sum (OPSD's remedy for style tokens).
        temperature: divides both models' logits.
    """
    if temperature != 1.0:
        student_logits, teacher_logits = student_logits / temperature, teacher_logits / temperature
    student, teacher = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    if 0 < top_k < student.shape[-1]:
        chosen = (teacher if support == "teacher" else student).detach().topk(top_k, dim=-1).indices
        student, teacher = (restrict(p.gather(-1, chosen), tail) for p in (student, teacher))
    entries = entries_of(student, teacher, kind, beta)
    if clip is not None:
        entries = entries.clamp(max=clip)
    return entries.sum(-1)


def restrict(log_p: Tensor, tail: bool) -> Tensor:
    """Log-probabilities [..., K] made to sum to one: by a tail bucket [..., K + 1], or by renormalising."""
    log_mass = log_p.logsumexp(-1, keepdim=True)
    if not tail:
        return log_p - log_mass
    return torch.cat([log_p, torch.log(-torch.expm1(log_mass.clamp(max=_LEAST_TAIL)))], -1)


def entries_of(student: Tensor, teacher: Tensor, kind: Kind, beta: float) -> Tensor:
    """What each vocabulary entry adds to the divergence; arguments are log-probabilities."""
    if kind == "forward":
        return teacher.exp() * (teacher - student)
    if kind == "reverse":
        return student.exp() * (student - teacher)
    weight = torch.tensor(beta, dtype=student.dtype, device=student.device)
    mixture = torch.logaddexp(student + torch.log(1 - weight), teacher + torch.log(weight))
    return beta * teacher.exp() * (teacher - mixture) + (1 - beta) * student.exp() * (student - mixture)


def sequence_mean(per_token: Tensor, mask: Tensor) -> Tensor:
    """Mean over each row's counted tokens, then over rows: a scalar.

    `per_token` and `mask` are [B, T]. A row without counted tokens adds 0 and still counts as a row, as in the
    authors' code and in TRL.
    """
    mask = mask.to(per_token.dtype)
    # Padding may hold anything, infinities too; zero times infinity would not be zero.
    counted = torch.where(mask > 0, per_token, 0.0)
    return (counted.sum(-1) / mask.sum(-1).clamp(min=1)).mean()


def skip_first(mask: Tensor, tokens: int, after: Tensor | None = None) -> Tensor:
    """The mask [B, T] with each row's first `tokens` completion tokens taken out of the loss.

    The teacher's first words may point at its demonstration ("Following the example, ..."); leaving them out of
    the loss keeps the student from learning to say so (paper, section 5).

    Args:
        after: [B], where in each row the answer begins, behind a thought; such a preface opens the answer, and the
            thought before it stays in the loss. By default all begin at once.
    """
    if tokens <= 0:
        return mask
    begins = torch.zeros(len(mask), dtype=torch.long, device=mask.device) if after is None else after
    place = torch.arange(mask.shape[1], device=mask.device) - begins[:, None]
    return mask.masked_fill((place >= 0) & (place < tokens), 0)


def thought_length(ids: Tensor, end: int | None) -> Tensor:
    """How many tokens of each completion [B, T] are a thought: up to the last `end`, which closes it; [B]."""
    if end is None:
        return torch.zeros(len(ids), dtype=torch.long, device=ids.device)
    place = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    return torch.where(ids == end, place, 0).amax(1)
