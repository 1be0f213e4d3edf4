"""What a step counts, says and refuses, in the places where a slip would show in no curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from tests.test_training import BASIC
from workbench.demonstrations import Demonstration
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel
from workbench.prompts import PromptTokens
from workbench.roles import make_roles
from workbench.settings import DivergenceSettings, KeepSettings, RolloutSettings, Settings
from workbench.training import TrainingState, sdft, stopwatch
from workbench.training.batches import Plan, refuse_unteachable
from workbench.training.comparing import Seen, say
from workbench.training.samples import CHOSEN_AT, asked, choices_at
from workbench.training.student import Predictions


def as_rows(*keep: bool) -> Sequence[PromptTokens]:
    """Rows of which only this is asked: whether they are keep rows."""
    return [cast(PromptTokens, SimpleNamespace(row=SimpleNamespace(keep=kept))) for kept in keep]


def test_the_brake_on_drift_counts_no_token_that_is_skipped(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    def first(skip: int) -> tuple[float, float]:
        settings = replace(BASIC, divergence=DivergenceSettings(anchor=0.5, skip_tokens=skip))
        roles = make_roles(tiny_model, settings.lora)
        torch.manual_seed(0)
        with torch.no_grad():  # a student that has drifted
            for parameter in roles.adapter.values():
                parameter.normal_(0, 0.1)
        roles.refresh()
        event = next(sdft(roles, rows, settings))
        return event.loss, event.gradient_norm

    assert min(first(0)) > 0
    assert first(BASIC.rollout.max_new_tokens) == (0.0, 0.0)


def test_a_loss_that_is_not_finite_changes_nothing(tiny_model: LoadedModel) -> None:
    roles = make_roles(tiny_model, BASIC.lora)
    state = TrainingState.begin(roles, BASIC)
    before = {name: parameter.detach().clone() for name, parameter in roles.adapter.items()}
    for parameter in roles.adapter.values():
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(WorkbenchError, match="not finite"):
        state.update(math.nan)
    assert all(torch.equal(parameter, before[name]) for name, parameter in roles.adapter.items()) and state.step == 0
    # And no gradient is left over for the step that is tried next.
    assert all(p.grad is None or not bool(p.grad.any()) for p in roles.adapter.values())


def test_a_state_takes_over_a_copy_of_the_same_shape_alone(tiny_model: LoadedModel) -> None:
    roles = make_roles(tiny_model, BASIC.lora)
    state = TrainingState.begin(roles, BASIC)
    for parameter in roles.adapter.values():
        parameter.grad = torch.ones_like(parameter)
    state.update(1.0)
    saved = {name: value.clone() for name, value in state.tensors().items()}
    other = TrainingState.begin(make_roles(tiny_model, BASIC.lora), BASIC)
    other.load(saved, 1)
    kept = {name: value.clone() for name, value in saved.items()}
    for parameter in other.roles.adapter.values():
        parameter.grad = torch.ones_like(parameter)
    other.update(1.0)
    assert all(torch.equal(value, kept[name]) for name, value in saved.items()), "what was given is left as it was"
    name = next(name for name, value in saved.items() if name.startswith("adapter.") and value.shape[0] > 1)
    with pytest.raises(ValueError, match="another shape"):
        other.load({**saved, name: saved[name][:1]}, 1)


def test_each_phase_has_the_sum_of_its_laps(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0, 1.0, 3.0, 6.0))
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(times))
    watch = stopwatch.Stopwatch()
    for phase in ("sample", "teacher", "sample"):
        watch.lap(phase)
    assert watch.seconds == {"sample": 4.0, "teacher": 2.0}


def test_a_small_share_of_keep_rows_is_one_row_and_none_needs_no_place() -> None:
    rows, kept = list(as_rows(*[False] * 9)), list(as_rows(True, True))
    shares = {0.01: 1, 0.5: 3, 0.95: 5}
    settings = {share: replace(BASIC, keep=KeepSettings(keep_share=share)) for share in shares}
    assert {share: Plan(rows, kept, made).keep_rows for share, made in settings.items()} == shares
    alone: Settings = replace(BASIC, optim=replace(BASIC.optim, batch=1), keep=KeepSettings(keep_share=0.0))
    refuse_unteachable([Demonstration("A?", "B.")], [Demonstration("C?", keep=True)], alone)


def test_the_loss_of_keep_rows_is_the_mean_over_rows_of_their_counted_tokens() -> None:
    seen = Seen(torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]]))
    seen.per_token = torch.tensor([[9.0] * 4, [2.0, 5.0, 5.0, 5.0], [4.0] * 4])
    assert seen.keep_loss(as_rows(False, True, True)) == pytest.approx((2 + 4) / 2)
    assert seen.keep_loss(as_rows(False, False, False)) is None


def test_first_choices_are_kept_of_real_tokens_of_shown_rows_alone() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]])
    assert asked(as_rows(False, False, False, True), mask).tolist() == [
        [True, True, False],
        [True, False, False],
        [False] * 3,
        [True, True, False],
    ]


def test_first_choices_of_a_long_answer_end_where_no_more_are_shown(tiny_model: LoadedModel) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, CHOSEN_AT + 3, len(tiny_model.tokenizer))
    found = choices_at(tiny_model.tokenizer, logits[0], logits[1])
    assert len(found) == CHOSEN_AT
    best = tiny_model.tokenizer.decode([int(logits[1, CHOSEN_AT - 1].argmax())])
    assert found[-1].teacher[0][0] == best


def test_agreement_with_the_demonstration_is_the_first_choice_being_its_token() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 7), torch.tensor([[0, 1, 2], [3, 4, 5]])
    logits[0, 1, 1] = logits[1, 0, 3] = 50.0
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    found: Any = say(Predictions(logits, None), targets, mask)
    first = (logits.argmax(-1) == targets) & mask.bool()
    assert torch.equal(found.agrees.bool(), first) and bool(first[0, 1]) and bool(first[1, 0])


@pytest.mark.parametrize("rollouts", [1, 2])
def test_answers_of_one_token_can_be_taught(rollouts: int, tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    """The letter of a multiple choice, say; or what a student says that ends at once."""
    settings = replace(
        BASIC, optim=replace(BASIC.optim, steps=30, lr=1e-2), rollout=RolloutSettings(rollouts, max_new_tokens=1)
    )
    losses = [event.loss for event in sdft(make_roles(tiny_model, settings.lora), rows, settings)]
    assert len(losses) == 30 and sum(losses[-5:]) < 0.6 * sum(losses[:5])
