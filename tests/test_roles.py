"""Three views of one model, none of which disturbs another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.execution import Execution
from workbench.models import LoadedModel, load
from workbench.roles import make_roles
from workbench.sampling import Choice, sample
from workbench.settings import KeepSettings, LoraSettings, OptimSettings, RolloutSettings, Settings, TeacherSettings
from workbench.training import sdft
from workbench.training.scorer import Scorer


def test_student_starts_as_the_base_and_base_never_moves(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    roles = make_roles(tiny_model, LoraSettings())
    ids = torch.tensor([[5, 6, 7, 8]])
    base = tiny_model.model(input_ids=ids).logits.clone()
    torch.testing.assert_close(roles.student(input_ids=ids).logits, base, rtol=0, atol=1e-6)
    weights = {n: p.clone() for n, p in tiny_model.model.named_parameters()}
    settings = Settings(optim=OptimSettings(steps=3, batch=4, lr=1e-2), rollout=RolloutSettings(max_new_tokens=6))
    list(sdft(roles, rows, settings))
    assert float((roles.student(input_ids=ids).logits - base).abs().max()) > 1e-3
    assert torch.equal(tiny_model.model(input_ids=ids).logits, base)
    for name, parameter in tiny_model.model.named_parameters():
        assert torch.equal(parameter, weights[name]), name


def test_views_share_the_base_weights(tiny_model: LoadedModel) -> None:
    roles = make_roles(tiny_model, LoraSettings())
    base = {p.data_ptr() for p in tiny_model.model.parameters()}
    trainable = {p.data_ptr() for p in roles.adapter.values()}
    assert {p.data_ptr() for p in roles.student.parameters()} == base | trainable
    assert base.isdisjoint(trainable)


def test_asking_any_role_leaves_training_as_it_was(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    """A question between two steps changes neither weights nor moments nor what may be trained."""
    settings = Settings(
        optim=OptimSettings(steps=4, batch=4, lr=1e-3),
        rollout=RolloutSettings(max_new_tokens=6),
        teacher=TeacherSettings(teacher="ema", ema_rate=0.1),
    )
    ends = []
    for ask in (False, True):
        roles = make_roles(tiny_model, settings.lora)
        for _ in sdft(roles, rows, settings):
            if ask:
                for decoder in (roles.base_decoder, roles.student_decoder, roles.teacher_decoder("ema")):
                    sample(decoder, [[5, 6, 7]], end=frozenset(), pad=0, longest=5, choice=Choice(0.7), seed=1)
                assert all(p.requires_grad for p in roles.adapter.values())
                assert not roles.student.training
        ends.append({**{n: p.data for n, p in roles.adapter.items()}, **roles.ema_adapter})
    for name in ends[0]:
        assert torch.equal(ends[0][name], ends[1][name]), name


def test_only_the_adapter_is_trained(tiny_model: LoadedModel) -> None:
    roles = make_roles(tiny_model, LoraSettings(rank=4))
    assert all(".lora_" in name for name in roles.adapter)
    assert len(roles.adapter) == 3 * 7 * 2
    assert all(min(p.shape) == 4 for p in roles.adapter.values())


def test_the_adapters_start_is_fixed_by_the_seed(tiny_model: LoadedModel) -> None:
    one, same, other = (make_roles(tiny_model, LoraSettings(), seed).adapter for seed in (1, 1, 2))
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert any(not torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize(("targets", "named"), [("q_proj,lm_head", "lm_head"), ("embed_tokens", "model.embed_tokens")])
def test_an_adapter_on_shared_weights_is_refused(tiny_model: LoadedModel, targets: str, named: str) -> None:
    assert tiny_model.model.config.tie_word_embeddings
    with pytest.raises(InputError, match=f"^{named} cannot be taught") as refused:
        make_roles(tiny_model, LoraSettings(targets=targets))
    assert "--targets" in refused.value.advice


def test_an_adapter_on_a_head_of_its_own_is_taught(tmp_path: Path, rows: list[Demonstration]) -> None:
    loaded = load(str(tiny.save(tmp_path / "untied", tie_word_embeddings=False)))
    roles = make_roles(loaded, LoraSettings(targets="q_proj,lm_head"))
    before = {n: p.detach().clone() for n, p in roles.adapter.items()}
    settings = Settings(optim=OptimSettings(steps=2, batch=4, lr=1e-2), rollout=RolloutSettings(max_new_tokens=6))
    list(sdft(roles, rows, settings))
    moved = {n.split(".lora_")[0].split(".")[-1] for n, p in roles.adapter.items() if not torch.equal(p, before[n])}
    assert moved == {"q_proj", "lm_head"}


@pytest.mark.parametrize("other_head", [False, True])
def test_keep_rows_are_scored_by_the_model_as_it_was_whatever_head_the_teacher_has(
    tmp_path: Path, rows: list[Demonstration], keep_rows: list[Demonstration], other_head: bool
) -> None:
    """A student that has not moved says of keep rows what their teacher says: their loss is nothing."""
    loaded, origin = (load(str(tiny.save(tmp_path / name, tie_word_embeddings=False))) for name in ("now", "before"))
    if other_head:
        noise = torch.randn(origin.model.lm_head.weight.shape, generator=torch.Generator().manual_seed(3))
        origin.model.lm_head.weight.data += 0.1 * noise
    roles = make_roles(loaded, LoraSettings(), origin=origin)
    assert (roles.teacher_head("original") is roles.head) is not other_head
    settings = Settings(
        optim=OptimSettings(steps=1, batch=8, lr=1e-3),
        rollout=RolloutSettings(max_new_tokens=6),
        teacher=TeacherSettings(teacher="original"),
        keep=KeepSettings(keep_share=0.5),
    )
    (step,) = sdft(roles, rows, settings, keep=keep_rows)
    assert step.keep_loss == pytest.approx(0, abs=1e-6)
    assert step.loss > 1e-2


def test_two_sets_of_frozen_weights_keep_within_one_budget(
    tiny_folder: Path, rows: list[Demonstration], keep_rows: list[Demonstration], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, Scorer]] = []

    class Noted(Scorer):
        def __init__(self, *args: Any, budget: int, **kwargs: Any) -> None:
            super().__init__(*args, budget=budget, **kwargs)
            made.append((budget, self))

    monkeypatch.setattr(sys.modules["workbench.training.sdft"], "Scorer", Noted)
    roles = make_roles(load(str(tiny_folder)), LoraSettings(), origin=load(str(tiny_folder)))
    settings = Settings(
        optim=OptimSettings(steps=1, batch=4),
        rollout=RolloutSettings(max_new_tokens=4),
        teacher=TeacherSettings(teacher="original"),
        keep=KeepSettings(keep_share=0.5),
    )
    list(sdft(roles, rows, settings, keep=keep_rows, execution=Execution(prefix_bytes=10**7)))
    (first, teacher), (second, base) = made
    assert first == 10**7 and 0 < second == teacher.left < first
    assert 0 < base.left < second
