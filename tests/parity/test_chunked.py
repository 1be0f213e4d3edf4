"""The loss in chunks against the plain loss: values, gradients, what is noted in passing, and the memory it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workbench import chunked as chunked_loss
from workbench.allocations import peak_of
from workbench.chunked import chunk_tokens, chunked_cross_entropy, chunked_divergence
from workbench.decoding.head import Head
from workbench.divergence import token_divergence

VOCABULARY = 151_936
EXACT = {"rtol": 1e-9, "atol": 1e-13}


def setup(tokens: int, hidden: int, vocabulary: int, seed: int = 0, **more: Any) -> tuple[Tensor, Tensor, Head]:
    """Hidden states [N, D] of student and teacher, and a head, in double precision."""
    g = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return random(tokens, hidden), random(tokens, hidden), Head(random(vocabulary, hidden), **more)


def plain(student: Tensor, teacher: Tensor, head: Head, **how: Any) -> tuple[Tensor, Tensor]:
    """Values [N], and the gradient [N, D] of their weighted sum, by autograd through whole logits."""
    leaf = student.clone().requires_grad_()
    values = token_divergence(head(leaf)[None], head(teacher)[None], **how)[0]
    (values * weights(values)).sum().backward()
    assert leaf.grad is not None
    return values.detach(), leaf.grad


def chunked(student: Tensor, teacher: Tensor, head: Head, **how: Any) -> tuple[Tensor, Tensor]:
    leaf = student.clone().requires_grad_()
    values = chunked_divergence(leaf, head, teacher, head, **how).per_token
    (values * weights(values)).sum().backward()
    assert leaf.grad is not None
    return values.detach(), leaf.grad


def weights(values: Tensor) -> Tensor:
    """Every token weighs something else in the loss."""
    return torch.linspace(0.2, 1.7, len(values), dtype=values.dtype)


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


@given(
    kind=st.sampled_from(["forward", "reverse", "jsd"]),
    beta=st.floats(0.05, 0.95),
    top_k=st.sampled_from([0, 1, 4, 11, 40]),
    support=st.sampled_from(["teacher", "student"]),
    tail=st.booleans(),
    clip=st.sampled_from([None, 0.01, 0.2]),
    temperature=st.sampled_from([1.0, 0.6, 2.5]),
    softcap=st.sampled_from([0.0, 3.0]),
    scale=st.sampled_from([1.0, 0.25]),
    tokens=st.integers(1, 9),
    chunk=st.integers(1, 5),
    at_once=st.sampled_from([1, 3, 100]),
    seed=st.integers(0, 99),
)
@hypothesis_settings(max_examples=120)
def test_every_setting_equals_the_plain_loss(
    tokens: int, chunk: int, at_once: int, seed: int, softcap: float, scale: float, **how: Any
) -> None:
    student, teacher, head = setup(tokens, 5, 23, seed, softcap=softcap, scale=scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked_loss, "CACHED_BYTES", at_once * 23 * 8)
        assert_same(chunked(student, teacher, head, chunk=chunk, **how), plain(student, teacher, head, **how))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"kind": "reverse"},
        {"kind": "jsd", "beta": 0.3},
        {"top_k": 100},
        {"kind": "reverse", "top_k": 100, "support": "student", "tail": False},
        {"clip": 1e-4, "temperature": 2.0},
    ],
    ids=str,
)
def test_the_full_vocabulary_equals_the_plain_loss(how: dict[str, Any]) -> None:
    student, teacher, head = setup(7, 4, VOCABULARY)
    assert_same(chunked(student, teacher, head, chunk=3, **how), plain(student, teacher, head, **how))


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_cross_entropy_equals_the_plain_one(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "CACHED_BYTES", at_once * 31 * 8)
    student, _, head = setup(11, 6, 31, softcap=4.0)
    targets = torch.arange(11)
    targets[::2] = head(student)[::2].argmax(-1)
    leaf, other = student.clone().requires_grad_(), student.clone().requires_grad_()
    found = chunked_cross_entropy(leaf, head, targets, chunk=4)
    expected = cross_entropy(head(other), targets, reduction="none")
    (found.per_token * weights(expected)).sum().backward()
    (expected * weights(expected)).sum().backward()
    assert leaf.grad is not None and other.grad is not None
    assert_same((found.per_token.detach(), leaf.grad), (expected.detach(), other.grad))
    assert torch.equal(found.agrees, head(student).argmax(-1) == targets)


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_what_is_noted_in_passing(temperature: float, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "CACHED_BYTES", at_once * 31 * 8)
    student, teacher, head = setup(10, 6, 31)
    ask = torch.arange(10) % 3 == 1
    found = chunked_divergence(student, head, teacher, head, ask=ask, chunk=4, temperature=temperature)
    log_p, log_q = head(student).log_softmax(-1), head(teacher).log_softmax(-1)
    torch.testing.assert_close(found.entropy, -(log_p.exp() * log_p).sum(-1), **EXACT)
    assert torch.equal(found.agrees, log_p.argmax(-1) == log_q.argmax(-1))
    for pair, expected in ((found.student, log_p), (found.teacher, log_q)):
        assert pair is not None
        best = expected[ask].exp().topk(5, -1)
        assert torch.equal(pair[0], best.indices)
        torch.testing.assert_close(pair[1], best.values, **EXACT)


def test_another_head_for_the_teacher() -> None:
    student, _, head = setup(4, 5, 23)
    _, teacher, other = setup(4, 7, 23, seed=1, softcap=2.0)
    values = chunked_divergence(student, head, teacher, other, chunk=3).per_token
    expected = token_divergence(head(student)[None], other(teacher)[None])[0]
    torch.testing.assert_close(values, expected, **EXACT)


def test_half_precision_is_compared_in_full() -> None:
    student, teacher, head = setup(6, 16, 400)
    student, teacher, head = student.bfloat16(), teacher.bfloat16(), Head(head.weight.bfloat16())
    leaf = student.clone().requires_grad_()
    values = chunked_divergence(leaf, head, teacher, head, chunk=4).per_token
    assert values.dtype == torch.float32
    expected = token_divergence(head(student).float()[None], head(teacher).float()[None])[0]
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)
    values.sum().backward()
    assert leaf.grad is not None and leaf.grad.dtype == torch.bfloat16 and leaf.grad.abs().sum() > 0


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation gives."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        self.most = max([self.most, *sizes])
        return found


@pytest.mark.parametrize("how", [{}, {"kind": "jsd"}, {"top_k": 20}], ids=str)
def test_no_logits_of_the_whole_answer_are_made(how: dict[str, Any]) -> None:
    tokens, vocabulary = 60, 5000
    student, teacher, head = setup(tokens, 4, vocabulary)
    with Largest() as seen:
        chunked(student, teacher, head, chunk=6, **how)
    assert seen.most == 6 * vocabulary
    with Largest() as seen:
        plain(student, teacher, head, **how)
    assert seen.most == tokens * vocabulary  # what the test would find if they were


@pytest.mark.parametrize("how", [{}, {"kind": "reverse"}, {"kind": "jsd"}, {"clip": 0.1, "temperature": 2.0}], ids=str)
def test_memory_stays_under_the_limit_at_any_length(how: dict[str, Any]) -> None:
    hidden, peaks = 8, []
    head = Head(torch.randn(VOCABULARY, hidden))
    assert chunk_tokens(head) == 56
    for tokens in (60, 150):
        student = torch.randn(tokens, hidden, requires_grad=True)
        teacher = torch.randn(tokens, hidden)

        def step(student: Tensor = student, teacher: Tensor = teacher) -> None:
            chunked_divergence(student, head, teacher, head, **how).per_token.mean().backward()

        peaks.append(peak_of(step))
    assert max(peaks) < 0.3e9
    assert peaks[1] < 1.02 * peaks[0] + 3 * 4 * hidden * 150  # only the hidden states' own gradient grows
