"""Our divergences against TRL's, computed live, in double precision; values and gradients."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from trl.experimental.sdft.loss_utils import (
    add_tail_bucket,
    compute_full_logit_self_distillation_loss,
    compute_topk_self_distillation_loss,
)

from workbench.decoding import Predictions
from workbench.divergence import sequence_mean, skip_first, token_divergence
from workbench.settings import Settings
from workbench.training.comparing import Seen, compare

KINDS = {0.0: ("forward", 0.5), 1.0: ("reverse", 0.5), 0.5: ("jsd", 0.5), 0.3: ("jsd", 0.3)}
B, C, V = 2, 5, 7
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def golden_logits() -> tuple[torch.Tensor, torch.Tensor]:
    """The fixed case of the golden table: no random numbers, so that anyone can recompute it."""
    i = torch.arange(B * C * V, dtype=torch.float64).view(B, C, V)
    return 2 * torch.sin(0.7 * i), 2 * torch.sin(0.7 * i + 0.9) + 0.5 * torch.cos(1.3 * i)


def random_logits(seed: int, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(3, 4, 50, dtype=torch.float64, generator=generator) for _ in range(2))


def with_gradient(function, student, teacher):
    student = student.clone().requires_grad_(True)
    value = function(student, teacher)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    return value.detach(), gradient


@pytest.mark.parametrize("alpha", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_full_vocabulary_equals_trl(alpha: float, seed: int) -> None:
    kind, beta = KINDS[alpha]
    student, teacher = random_logits(seed)
    ours = with_gradient(lambda s, t: token_divergence(s, t, kind=kind, beta=beta), student, teacher)
    theirs = with_gradient(
        lambda s, t: compute_full_logit_self_distillation_loss(s, t, distillation_alpha=alpha),
        student,
        teacher,
    )
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("alpha", KINDS)
@pytest.mark.parametrize(("k", "tail"), [(1, True), (5, True), (5, False), (20, True), (20, False)])
def test_top_k_of_the_student_equals_trl(alpha: float, k: int, tail: bool) -> None:
    kind, beta = KINDS[alpha]
    student, teacher = random_logits(7)
    ours = with_gradient(
        lambda s, t: token_divergence(s, t, kind=kind, beta=beta, top_k=k, support="student", tail=tail),
        student,
        teacher,
    )
    theirs = with_gradient(
        lambda s, t: compute_topk_self_distillation_loss(
            s, t, distillation_topk=k, distillation_alpha=alpha, distillation_add_tail=tail
        ),
        student,
        teacher,
    )
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("skip", "forward", "jsd", "reverse"),
    [
        (0, 0.527959472, 0.120766708, 0.531968926),
        (1, 0.532609406, 0.122531651, 0.541646139),
        (3, 0.316625363, 0.074208612, 0.331977157),
    ],
)
def test_golden_full_vocabulary(skip: int, forward: float, jsd: float, reverse: float) -> None:
    student, teacher = golden_logits()
    for kind, expected in (("forward", forward), ("jsd", jsd), ("reverse", reverse)):
        value = sequence_mean(token_divergence(student, teacher, kind=kind), skip_first(MASK, skip))
        assert float(value) == pytest.approx(expected, abs=5e-10)


@pytest.mark.parametrize(
    ("support", "tail", "forward", "jsd", "reverse"),
    [
        ("student", False, 0.364393300, 0.085830585, 0.373222791),
        ("student", True, 0.377681279, 0.092028567, 0.414013304),
        ("teacher", False, 0.364665661, 0.085872771, 0.364151143),
        ("teacher", True, 0.405271487, 0.091618012, 0.380565610),
    ],
)
def test_golden_top_k(support: str, tail: bool, forward: float, jsd: float, reverse: float) -> None:
    student, teacher = golden_logits()
    for kind, expected in (("forward", forward), ("jsd", jsd), ("reverse", reverse)):
        per_token = token_divergence(student, teacher, kind=kind, top_k=3, support=support, tail=tail)
        assert float(sequence_mean(per_token, MASK)) == pytest.approx(expected, abs=5e-10)


def test_golden_temperature() -> None:
    student, teacher = golden_logits()
    per_token = token_divergence(student, teacher, temperature=0.7)
    assert float(sequence_mean(per_token, MASK)) == pytest.approx(0.873284969, abs=5e-10)


def test_mean_is_by_sequence_and_not_by_token() -> None:
    student, teacher = golden_logits()
    per_token = token_divergence(student, teacher)
    by_token = float((per_token * MASK).sum() / MASK.sum())
    assert by_token == pytest.approx(0.548032385, abs=5e-10)
    assert float(sequence_mean(per_token, MASK)) != pytest.approx(by_token, abs=1e-3)


def test_aggregation_equals_trl() -> None:
    from collections import defaultdict

    from trl.experimental.sdft.sdft_trainer import DistillationLogits, SDFTTrainer

    student, teacher = golden_logits()
    trainer = object.__new__(SDFTTrainer)
    trainer.args = SimpleNamespace(
        distillation_mode="full_logits",
        distillation_topk=None,
        distillation_alpha=0.0,
        distillation_add_tail=False,
        distillation_is_clip=None,
    )
    trainer.accelerator = SimpleNamespace(gather=lambda x: x)
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    trainer._name = "SDFT"
    for skip in (0, 1, 3, 5):
        mask = skip_first(MASK, skip)
        theirs = trainer._compute_self_distillation_loss(
            SimpleNamespace(training=True),
            {},
            DistillationLogits(
                completion_ids=torch.zeros(B, C, dtype=torch.long),
                loss_mask=mask,
                student_logits=student,
                teacher_logits=teacher,
            ),
        )
        ours = sequence_mean(token_divergence(student, teacher), mask)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def test_forward_is_the_teacher_first() -> None:
    """KL(teacher || student), by hand on two tokens: the direction is easy to swap."""
    student, teacher = torch.tensor([[[0.8, 0.2]]]).log(), torch.tensor([[[0.5, 0.5]]]).log()
    by_hand = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    assert float(token_divergence(student, teacher)) == pytest.approx(by_hand, abs=1e-6)
    other = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert float(token_divergence(student, teacher, kind="reverse")) == pytest.approx(other, abs=1e-6)


def test_gradients_are_the_closed_forms() -> None:
    student, teacher = random_logits(3)
    p, q = student.softmax(-1), teacher.softmax(-1)
    _, forward = with_gradient(lambda s, t: token_divergence(s, t), student, teacher)
    torch.testing.assert_close(forward, p - q, rtol=1e-9, atol=1e-13)
    value, reverse = with_gradient(lambda s, t: token_divergence(s, t, kind="reverse"), student, teacher)
    torch.testing.assert_close(reverse, p * ((p / q).log() - value[..., None]), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd"])
def test_gradient_by_finite_differences(kind: str) -> None:
    generator = torch.Generator().manual_seed(5)
    student = torch.randn(1, 2, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = torch.randn(1, 2, 6, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda s: token_divergence(s, teacher, kind=kind), (student,))
    assert torch.autograd.gradcheck(lambda s: token_divergence(s, teacher, kind=kind, top_k=3), (student,))


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd"])
@pytest.mark.parametrize("top_k", [0, 5])
def test_zero_when_equal_and_never_negative(kind: str, top_k: int) -> None:
    student, teacher = random_logits(11)
    same = token_divergence(teacher, teacher, kind=kind, top_k=top_k)
    torch.testing.assert_close(same, torch.zeros_like(same), rtol=0, atol=1e-12)
    assert float(token_divergence(student, teacher, kind=kind, top_k=top_k).min()) > 0


def test_support_of_all_tokens_is_the_full_vocabulary() -> None:
    student, teacher = golden_logits()
    full = token_divergence(student, teacher)
    for k in (V, V + 5):
        torch.testing.assert_close(token_divergence(student, teacher, top_k=k), full, rtol=0, atol=1e-12)


def test_tail_bucket_equals_trl_and_is_finite_without_mass() -> None:
    log_p = torch.log(torch.tensor([[0.5, 0.3], [0.5, 0.5]], dtype=torch.float64))
    tail = add_tail_bucket(log_p)
    student = torch.tensor([[0.0, 0.0, -1000.0]], dtype=torch.float64)
    assert torch.isfinite(token_divergence(student, student.flip(-1), top_k=2)).all()
    assert float(tail[0, -1]) == pytest.approx(math.log(0.2), abs=1e-9)


def test_clip_bounds_each_vocabulary_entry() -> None:
    student, teacher = random_logits(13)
    clipped = token_divergence(student, teacher, clip=0.05)
    log_p, log_q = student.log_softmax(-1), teacher.log_softmax(-1)
    by_hand = (log_q.exp() * (log_q - log_p)).clamp(max=0.05).sum(-1)
    torch.testing.assert_close(clipped, by_hand, rtol=1e-12, atol=0)
    assert float((token_divergence(student, teacher) - clipped).max()) > 0.1


def test_padding_never_reaches_the_loss() -> None:
    student, teacher = golden_logits()
    spoiled = student.clone()
    spoiled[1, 3:] = float("inf")
    spoiled = spoiled.requires_grad_(True)
    loss = sequence_mean(token_divergence(spoiled, teacher), MASK)
    assert float(loss) == pytest.approx(0.527959472, abs=5e-10)
    assert float(sequence_mean(token_divergence(student, teacher), torch.zeros_like(MASK))) == 0.0


def test_a_steps_means_are_over_masked_tokens_only() -> None:
    student, teacher = golden_logits()
    spoiled = torch.where(MASK.bool()[..., None], student, float("inf"))
    compared = compare(Predictions(spoiled, None), Predictions(teacher, None), MASK, Settings())
    whole = Seen(MASK)
    whole.add(slice(None), compared, 0.0)
    seen = whole.means()
    kept = MASK.bool()
    log_p = student[kept].log_softmax(-1)
    assert seen.tokens == 8
    assert seen.entropy == pytest.approx(float(-(log_p.exp() * log_p).sum(-1).mean()), abs=1e-6)
    assert seen.agreement == pytest.approx(
        float((student[kept].argmax(-1) == teacher[kept].argmax(-1)).double().mean())
    )
    assert seen.divergence == pytest.approx(0.548032385, abs=1e-6)
