"""The loss without logits of a whole batch: hidden states go through the head a few dozen tokens at a time.

For each chunk the logits of student and teacher are made, compared, and thrown away again. What remains is one number
a token and its gradient in the student's hidden states, which is worked out on the spot: backward only multiplies it
by the token's weight in the loss. The head is frozen, so nothing is computed for its weights. How uncertain the
student is, whether both agree, and what else they would have said comes out of the same logits.

`divergence.py` has the definitions; the gradients here are theirs (tests/parity/test_chunked.py).

Shapes: N tokens, n tokens of a chunk, D hidden size, V vocabulary, K tokens of the support.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from workbench.decoding.head import Head
from workbench.divergence import Kind, Support, entries_of, restrict
from workbench.memory import CHUNK_BYTES, MOST_VECTORS

CHOICES = 5
"""First choices that are looked at."""

CACHED_BYTES = 2**19
"""Size of the logits that a processor compares at once: what is made of them stays in its cache. Making them takes more
tokens at once, for the head is read from memory each time."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What was found at each of N tokens; only `per_token` is differentiable.

    Attributes:
        per_token: the divergence, or the cross-entropy, in nats.
        entropy: the student's, in nats.
        agrees: whether the student's first choice is the teacher's (or the target).
        student, teacher: (ids, probabilities) [M, 5] of the first choices at the M tokens that were asked about.
    """

    per_token: Tensor
    entropy: Tensor
    agrees: Tensor
    student: tuple[Tensor, Tensor] | None = None
    teacher: tuple[Tensor, Tensor] | None = None


@dataclass
class _Seen:
    """What is noted in passing, chunk by chunk."""

    entropy: list[Tensor] = field(default_factory=list)
    agrees: list[Tensor] = field(default_factory=list)
    student: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    teacher: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def compared(self, per_token: Tensor) -> Compared:
        def joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor] | None:
            return (torch.cat([i for i, _ in pairs]), torch.cat([p for _, p in pairs])) if pairs else None

        return Compared(
            per_token, torch.cat(self.entropy), torch.cat(self.agrees), joined(self.student), joined(self.teacher)
        )


def chunk_tokens(head: Head, budget: float = CHUNK_BYTES) -> int:
    """How many tokens may go through the head at once: 56 at a vocabulary of 151,936."""
    vectors = MOST_VECTORS + (1 if head.softcap else 0)  # a softcap needs one more
    return max(1, int(budget // (vectors * head.weight.shape[0] * max(4, head.weight.element_size()))))


def chunked_divergence(
    student: Tensor,
    student_head: Head,
    teacher: Tensor,
    teacher_head: Head,
    *,
    kind: Kind = "forward",
    beta: float = 0.5,
    top_k: int = 0,
    support: Support = "teacher",
    tail: bool = True,
    clip: float | None = None,
    temperature: float = 1.0,
    ask: Tensor | None = None,
    chunk: int | None = None,
) -> Compared:
    """`token_divergence` of hidden states [N, D], differentiable in the student's.

    Args:
        ask: [N], True where the first choices of both are wanted.
        chunk: tokens at a time; by default as many as `chunk_tokens` allows.
    """
    seen = _Seen()

    def teachers(part: slice) -> Tensor:
        return _full(teacher_head(teacher[part]))

    def measure(s: Tensor, t: Tensor, part: slice, need: bool) -> tuple[Tensor, Tensor | None]:
        s, t = _log_softmax_(s), _log_softmax_(t)
        seen.agrees.append(_same_first(s, t))
        if ask is not None:
            asked = ask[part]
            seen.student.append(_first_choices(s[asked]))
            seen.teacher.append(_first_choices(t[asked]))
        p = s.exp()
        seen.entropy.append(-torch.linalg.vecdot(p, s))
        if temperature != 1.0:
            del p
            # The constant that the first softmax took off does not matter to the second.
            s, t = _log_softmax_(s.div_(temperature)), _log_softmax_(t.div_(temperature))
            p = s.exp()
        if 0 < top_k < s.shape[-1]:
            chosen = (t if support == "teacher" else s).topk(top_k, dim=-1).indices
            value, slope = _on_support(s.gather(-1, chosen), t.gather(-1, chosen), kind, beta, tail, clip)
            del s, t
            if not need:
                return value, None
            gradient = p.mul_(-slope.sum(-1, keepdim=True)).scatter_add_(-1, chosen, slope)
        else:
            value, whole = _on_vocabulary(s, t, p, kind, beta, clip, need)
            del s, t
            if whole is None:
                return value, None
            # Through the log-softmax: d log p_i / d logit_j = [i = j] - p_j.
            gradient = whole.sub_(p.mul_(whole.sum(-1, keepdim=True)))
        return value, gradient.div_(temperature) if temperature != 1.0 else gradient

    size = chunk or min(chunk_tokens(student_head), chunk_tokens(teacher_head))
    return seen.compared(_InChunks.apply(student, student_head, teachers, measure, size))  # type: ignore[no-untyped-call]


def chunked_cross_entropy(student: Tensor, head: Head, targets: Tensor, *, chunk: int | None = None) -> Compared:
    """Cross-entropy of hidden states [N, D] against target tokens [N], differentiable in the hidden states."""
    seen = _Seen()

    def measure(s: Tensor, target: Tensor, part: slice, need: bool) -> tuple[Tensor, Tensor | None]:
        s = _log_softmax_(s)
        said = s.gather(-1, target[:, None])[:, 0]
        seen.agrees.append(said == s.amax(-1))
        p = s.exp()
        seen.entropy.append(-torch.linalg.vecdot(p, s))
        if not need:
            return -said, None
        return -said, p.scatter_add_(-1, target[:, None], -torch.ones_like(said)[:, None])

    size = chunk or chunk_tokens(head)
    return seen.compared(_InChunks.apply(student, head, targets.__getitem__, measure, size))  # type: ignore[no-untyped-call]


class _InChunks(torch.autograd.Function):
    """Values [N] of `measure` over the logits of hidden states [N, D] and what `beside` has for the same tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Head,
        beside: Callable[[slice], Tensor],
        measure: Callable[[Tensor, Tensor, slice, bool], tuple[Tensor, Tensor | None]],
        chunk: int,
    ) -> Tensor:
        need = bool(ctx.needs_input_grad[0])
        gradient = torch.empty_like(hidden) if need else None
        values = []
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            logits = head(hidden[part])
            # `measure` works in place; what Gemma's bound did is needed again on the way back.
            capped = logits.clone() if head.softcap and need else None
            logits, other = _full(logits), beside(part)
            size = _at_once(logits)
            for at in range(0, len(logits), size):
                rows = slice(at, at + size)
                of_all = slice(start + at, start + min(at + size, len(logits)))
                value, slope = measure(logits[rows], other[rows], of_all, need)
                values.append(value)
                if slope is None:
                    continue
                if len(slope) < len(logits):
                    logits[rows] = slope
                else:
                    logits = slope
                del slope
            del other
            if gradient is not None:
                gradient[part] = head.back(logits, capped)
            del logits, capped  # before the next chunk's come
        ctx.gradient = gradient
        return torch.cat(values) if values else hidden.new_zeros(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *weights: Tensor) -> Any:
        (weight,) = weights
        return (ctx.gradient * weight[:, None]).to(ctx.gradient.dtype), None, None, None, None


def _at_once(logits: Tensor) -> int:
    """How many rows of logits [n, V] are compared at once."""
    if logits.device.type != "cpu":
        return max(1, len(logits))
    return max(1, CACHED_BYTES // (logits.shape[-1] * logits.element_size()))


def _full(logits: Tensor) -> Tensor:
    """In at least 32 bits: a softmax over a large vocabulary in 16 bits loses the tail."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _log_softmax_(logits: Tensor) -> Tensor:
    """Log-probabilities, in the memory of the logits."""
    return logits.sub_(logits.logsumexp(-1, keepdim=True))


def _same_first(s: Tensor, t: Tensor) -> Tensor:
    """Whether the first choices of s and t [n, V] are the same.

    They are if nothing is lost by choosing for both at once. Where the largest value stands is not asked: that takes
    a processor ten times as long as finding the value.
    """
    return (s + t).amax(-1) == s.amax(-1) + t.amax(-1)


def _first_choices(log_p: Tensor) -> tuple[Tensor, Tensor]:
    best = log_p.topk(min(CHOICES, log_p.shape[-1]), -1)
    return best.indices, best.values.exp()


def _on_support(s: Tensor, t: Tensor, kind: Kind, beta: float, tail: bool, clip: float | None) -> tuple[Tensor, Tensor]:
    """Divergence [n] on a support and its slope in the student's log-probabilities [n, K]: few numbers, by autograd."""
    with torch.enable_grad():
        leaf = s.detach().requires_grad_()
        entries = entries_of(restrict(leaf, tail), restrict(t, tail), kind, beta)
        value = (entries if clip is None else entries.clamp(max=clip)).sum(-1)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


def _on_vocabulary(
    s: Tensor, t: Tensor, p: Tensor, kind: Kind, beta: float, clip: float | None, need: bool
) -> tuple[Tensor, Tensor | None]:
    """Divergence [n] and its slope in the student's log-probabilities s [n, V]; s and t are used up.

    With e the entries that are summed: forward KL, de/ds = -q; reverse KL, de/ds = e + p; JSD with mixture m,
    de/ds = (1 - beta) p (s - log m), because what the mixture's own change adds cancels out. An entry at its clip
    has no slope.
    """
    if kind == "jsd":
        weight = torch.tensor(beta, dtype=s.dtype, device=s.device)
        mixture = torch.logaddexp(s + torch.log(1 - weight), t + torch.log(weight))
        of_student = s.sub_(mixture).mul_(p).mul_(1 - beta)
        q = t.exp()
        entries = t.sub_(mixture).mul_(q).mul_(beta).add_(of_student)
        del mixture, q
        slope = of_student
    elif kind == "forward":
        q = t.exp()
        entries = t.sub_(s).mul_(q)
        slope = q.neg_()
    else:
        entries = s.sub_(t).mul_(p)
        slope = entries + p if need else entries
    if clip is None:
        return entries.sum(-1), slope if need else None
    if need:
        slope.masked_fill_(entries > clip, 0.0)
    return entries.clamp_(max=clip).sum(-1), slope if need else None
