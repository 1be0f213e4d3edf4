"""In fp16, for cards without bf16: no gradient is lost for being small, no number for being large without an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.test_training import BASIC
from workbench.chunked import chunked_divergence
from workbench.decoding import Head, LiveDecoder
from workbench.demonstrations import Demonstration
from workbench.errors import WorkbenchError
from workbench.models import load
from workbench.roles import Roles, make_roles
from workbench.settings import LoraSettings
from workbench.training import TrainingState, sdft, sft

LARGE = replace(
    BASIC,
    optim=replace(BASIC.optim, batch=32),
    rollout=replace(BASIC.rollout, max_new_tokens=1024),
)
IDS = torch.arange(10, 34).view(2, 12)


def lesson(folder: Path, precision: str) -> Roles:
    """A student that has learned something, the same in each precision."""
    roles = make_roles(load(str(folder), precision=precision), LoraSettings(rank=4))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in roles.adapter.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    roles.refresh()
    return roles


def gradients(folder: Path, precision: str, share: float) -> list[torch.Tensor]:
    """Of a loss in which each token has this share, as a step takes them."""
    roles = lesson(folder, precision)
    state = TrainingState.begin(roles, LARGE)
    losses = roles.student(input_ids=IDS).logits.float().log_softmax(-1)[..., 7]
    state.accumulate(-share * losses.sum())
    seen: list[torch.Tensor] = []
    state.optimizer.step = lambda: seen.extend(p.grad.clone() for p in roles.adapter.values())  # type: ignore
    state.update(1.0)
    return seen


# A token of the longest answer, and one late in a run, when little is left to learn.
@pytest.mark.parametrize("share", [1 / (32 * 1024), 1e-2 / (32 * 1024)])
def test_no_gradient_is_lost_for_being_small(share: float, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path)
    exact = gradients(folder, "fp32", share)
    for ours, expected in zip(gradients(folder, "fp16", share), exact, strict=True):
        assert float((ours - expected).norm() / expected.norm()) < 0.03


def test_what_is_magnified_is_a_matter_of_the_settings_and_of_fp16_alone(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path)
    for precision, magnified in (("fp32", 1.0), ("bf16", 1.0), ("fp16", 1024.0)):
        assert TrainingState.begin(lesson(folder, precision), LARGE).magnified == magnified


@pytest.mark.parametrize("method", [sdft, sft])
def test_a_step_in_fp16_has_the_gradient_of_one_in_fp32(method: object, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path)
    rows = [Demonstration(f"What is {i}?", f"mipa tolu {i}") for i in range(8)]
    norms = []
    for precision in ("fp32", "fp16"):
        roles = lesson(folder, precision)
        norms.append(next(method(roles, rows, BASIC)).gradient_norm)  # type: ignore[operator]
    assert norms[1] == pytest.approx(norms[0], rel=0.25 if method is sdft else 0.02)  # sampled answers may differ


@torch.no_grad()
def test_our_loop_bears_numbers_as_large_as_the_model_does(tmp_path: Path) -> None:
    loaded = load(str(tiny.save(tmp_path, tie_word_embeddings=False)), precision="fp16")
    loaded.model.model.embed_tokens.weight.mul_(2e4)  # their squares are far beyond fp16
    largest = float(loaded.model.model.embed_tokens(IDS).abs().max())
    assert 1e4 < largest < 65_504
    decoder = LiveDecoder(loaded.model)
    found = decoder.forward(IDS, None, decoder.allocate(2, 12), keep=12)
    expected = loaded.model(input_ids=IDS).logits
    assert expected.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd"])
def test_the_loss_bears_logits_as_large_as_fp16_does(kind: str) -> None:
    head = Head((torch.randn(300, 16) * 40).half())
    student, teacher = ((torch.randn(5, 16) * 70).half() for _ in range(2))
    largest = float(head(student).abs().max())
    assert 2e4 < largest < 65_504, largest
    leaves = [student.clone().requires_grad_(), student.float().requires_grad_()]
    wide = Head(head.weight.float())
    found = [
        chunked_divergence(leaf, own, teacher.to(leaf.dtype), own, kind=kind, chunk=2).per_token  # type: ignore
        for leaf, own in zip(leaves, (head, wide), strict=True)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=5e-3, atol=0.0)
    for values in found:
        values.mean().backward()
    assert leaves[0].grad is not None and leaves[0].grad.isfinite().all()
    torch.testing.assert_close(leaves[0].grad.float(), leaves[1].grad, rtol=1e-2, atol=1e-2)


def test_a_step_whose_gradient_overflows_is_taken_again_magnified_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.save(tmp_path, tie_word_embeddings=False, max_position_embeddings=2048)
    rows = [Demonstration(f"What is {i}?", "x") for i in range(8)]
    tried: list[float] = []
    accumulate = TrainingState.accumulate

    def noting(state: TrainingState, loss: torch.Tensor) -> None:
        tried.append(state.magnified)
        accumulate(state, loss)

    monkeypatch.setattr(TrainingState, "accumulate", noting)
    steps = {}
    for precision in ("fp32", "fp16"):
        roles = lesson(folder, precision)
        with torch.no_grad():
            roles.loaded.model.lm_head.weight.mul_(1000)  # from logits near 65,504 comes a gradient far beyond it
        tried.clear()
        lessons = sft(roles, rows, LARGE)
        steps[precision] = next(lessons), next(lessons)
    assert tried[:3] == [1024.0, 64.0, 1024.0]  # each step begins as if the one before had not overflowed
    ours, expected = steps["fp16"][0], steps["fp32"][0]
    assert ours.step == 1 and ours.gradient_norm == pytest.approx(expected.gradient_norm, rel=0.02)


def test_numbers_too_large_for_fp16_end_the_run_with_what_to_do(tmp_path: Path) -> None:
    roles = lesson(tiny.save(tmp_path, tie_word_embeddings=False), "fp16")
    with torch.no_grad():
        roles.loaded.model.model.layers[1].mlp.down_proj.weight.mul_(1e5)
    before = {name: p.detach().clone() for name, p in roles.adapter.items()}
    rows = [Demonstration(f"What is {i}?", f"mipa tolu {i}") for i in range(8)]
    with pytest.raises(WorkbenchError, match=r"step 1 is not finite.*\n.*65,504.*--precision bf16"):
        next(sdft(roles, rows, BASIC))
    assert all(torch.equal(p, before[name]) for name, p in roles.adapter.items())
