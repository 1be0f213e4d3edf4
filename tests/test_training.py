"""The loops: what a step does, that options matter, that they can be stopped, and that the flat twin agrees."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.demonstrations import Demonstration
from workbench.errors import InputError, WorkbenchError
from workbench.events import Step, from_dict, to_dict
from workbench.models import LoadedModel
from workbench.roles import make_roles
from workbench.settings import (
    DivergenceSettings,
    KeepSettings,
    OptimSettings,
    RolloutSettings,
    Settings,
    TeacherSettings,
)
from workbench.training import TrainingState, sdft, sft
from workbench.training.batches import make_plan, stream
from workbench.training.state import learning_rate

BASIC = Settings(
    optim=OptimSettings(steps=3, batch=6, lr=2e-3, warmup=0),
    rollout=RolloutSettings(max_new_tokens=8),
    divergence=DivergenceSettings(skip_tokens=0),
)


def run(model: LoadedModel, rows: list[Demonstration], settings: Settings, **more: Any) -> list[Step]:
    return list(sdft(make_roles(model, settings.lora), rows, settings, **more))


def without_times(events: list[Step]) -> list[Step]:
    return [replace(event, seconds={}) for event in events]


def test_a_step_says_what_happened(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    events = run(tiny_model, rows, BASIC)
    assert [event.step for event in events] == [1, 2, 3] and {event.steps for event in events} == {3}
    for event in events:
        assert set(event.seconds) == {"sample", "teacher", "student", "update"}
        assert event.loss > 0 and event.gradient_norm > 0 and 0 < event.entropy < 7 and 0 <= event.agreement <= 1
        assert event.tokens == pytest.approx(event.length * 6) and event.keep_loss is None
        assert len(event.samples) == 2
        for sample in event.samples:
            assert len(sample.tokens) == len(sample.divergence) and sample.prompt.startswith("How do you say")
        assert from_dict(to_dict(event)) == event
    assert events[0].learning_rate == pytest.approx(2e-3)


def test_the_student_moves_towards_the_teacher(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    settings = replace(BASIC, optim=replace(BASIC.optim, steps=40, lr=1e-2))
    losses = [event.loss for event in run(tiny_model, rows, settings)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_sft_learns_to_say_the_demonstration(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    settings = replace(BASIC, optim=replace(BASIC.optim, steps=40, lr=1e-2))
    events = list(sft(make_roles(tiny_model, settings.lora), rows, settings))
    assert events[-1].loss < 0.5 * events[0].loss and events[-1].agreement > events[0].agreement
    assert set(events[0].seconds) == {"student", "update"}


CHANGES: dict[str, dict[str, Any]] = {
    "reverse": {"divergence": DivergenceSettings(divergence="reverse", skip_tokens=0)},
    "jsd": {"divergence": DivergenceSettings(divergence="jsd", beta=0.3, skip_tokens=0)},
    "top-k of the teacher": {"divergence": DivergenceSettings(support_size=10, skip_tokens=0)},
    "top-k of the student": {"divergence": DivergenceSettings(support_size=10, support="student", skip_tokens=0)},
    "no tail": {"divergence": DivergenceSettings(support_size=10, tail=False, skip_tokens=0)},
    "clip": {"divergence": DivergenceSettings(clip=0.05, skip_tokens=0)},
    "skip": {"divergence": DivergenceSettings(skip_tokens=3)},
    "anchor": {"divergence": DivergenceSettings(anchor=0.5, skip_tokens=0)},
    "loss temperature": {"divergence": DivergenceSettings(loss_temperature=2.0, skip_tokens=0)},
    "ema": {"teacher": TeacherSettings(teacher="ema", ema_rate=0.5)},
    "live": {"teacher": TeacherSettings(teacher="live")},
    "template": {"teacher": TeacherSettings(template="{demonstration} | {prompt}")},
    "rollouts": {"rollout": RolloutSettings(rollouts=3, max_new_tokens=8)},
    "temperature": {"rollout": RolloutSettings(temperature=0.5, max_new_tokens=8)},
    "top-p": {"rollout": RolloutSettings(top_p=0.5, max_new_tokens=8)},
    "top-k": {"rollout": RolloutSettings(top_k=2, max_new_tokens=8)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_changes_the_run_and_repeats(
    name: str, tiny_model: LoadedModel, rows: list[Demonstration]
) -> None:
    plain = run(tiny_model, rows, BASIC)
    changed = run(tiny_model, rows, replace(BASIC, **CHANGES[name]))
    again = run(tiny_model, rows, replace(BASIC, **CHANGES[name]))
    assert without_times(changed) == without_times(again)
    assert [e.loss for e in changed] != [e.loss for e in plain]
    assert all(e.loss > 0 for e in changed)


def test_skipped_tokens_are_not_counted(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    settings = replace(BASIC, divergence=DivergenceSettings(skip_tokens=3))
    (plain, *_), (skipped, *_) = run(tiny_model, rows, BASIC), run(tiny_model, rows, settings)
    assert skipped.tokens == plain.tokens - 3 * 6
    assert skipped.samples[0].divergence[:3] == (0.0, 0.0, 0.0)
    assert skipped.samples[0].divergence[3:] == plain.samples[0].divergence[3:]


def test_keep_rows_ride_in_every_batch_and_start_at_zero(
    tiny_model: LoadedModel, rows: list[Demonstration], keep_rows: list[Demonstration]
) -> None:
    settings = replace(BASIC, keep=KeepSettings(keep_share=0.34))
    plan = make_plan(make_roles(tiny_model, settings.lora), rows, keep_rows, settings)
    for step in range(8):
        assert [row.row.keep for row in plan.batch(step)] == [False] * 4 + [True] * 2
    events = run(tiny_model, rows, settings, keep=keep_rows)
    # At the first step the student is the base: on a keep row its teacher says exactly what it says.
    assert events[0].keep_loss == pytest.approx(0, abs=1e-5)
    assert events[-1].keep_loss is not None and events[-1].keep_loss > 1e-4
    assert events[0].samples[-1].keep and not events[0].samples[0].keep
    off = replace(BASIC, keep=KeepSettings(keep_share=0.0))
    assert without_times(run(tiny_model, rows, off, keep=keep_rows)) == without_times(run(tiny_model, rows, BASIC))


@pytest.mark.parametrize("teacher", ["ema", "live"])
def test_keep_rows_stay_with_the_base_whoever_teaches(
    teacher: str, tiny_model: LoadedModel, rows: list[Demonstration], keep_rows: list[Demonstration]
) -> None:
    """A live teacher agrees with the student by definition; a keep row's teacher is still the base."""
    settings = replace(BASIC, teacher=TeacherSettings(teacher=teacher, ema_rate=1.0), keep=KeepSettings(0.5))
    events = run(tiny_model, rows, replace(settings, optim=replace(settings.optim, lr=2e-2)), keep=keep_rows)
    assert events[-1].keep_loss is not None and events[-1].keep_loss > 1e-3


def test_keep_rows_hold_the_model_where_it_was(
    tiny_model: LoadedModel, rows: list[Demonstration], keep_rows: list[Demonstration]
) -> None:
    optim = OptimSettings(steps=30, batch=8, lr=5e-3, warmup=0)
    drift = []
    for share in (0.0, 0.5):
        settings = replace(BASIC, optim=optim, keep=KeepSettings(share))
        roles = make_roles(tiny_model, settings.lora)
        list(sdft(roles, rows, settings, keep=keep_rows))
        ids = torch.tensor([[1, *roles.loaded.tokenizer("What is 3 plus 4?")["input_ids"], 2]])
        base, student = roles.loaded.model(input_ids=ids).logits, roles.student(input_ids=ids).logits
        p, q = base[0, -1].log_softmax(-1), student[0, -1].detach().log_softmax(-1)
        drift.append(float((p.exp() * (p - q)).sum()))
    assert drift[1] < 0.5 * drift[0]


def test_sft_keep_rows_learn_the_bases_answers(
    tiny_model: LoadedModel, rows: list[Demonstration], keep_rows: list[Demonstration]
) -> None:
    settings = replace(BASIC, keep=KeepSettings(0.5))
    first = next(sft(make_roles(tiny_model, settings.lora), rows, settings, keep=keep_rows))
    alone = next(sft(make_roles(tiny_model, settings.lora), rows, settings))
    # The base's own greedy answers are its likeliest tokens: the student agrees with them from the start.
    assert first.keep_loss is not None and first.keep_loss < first.loss < alone.loss
    assert first.agreement > alone.agreement + 0.2


Method = Callable[..., Iterator[Step]]


@pytest.mark.parametrize("method", [sdft, sft])
def test_closing_at_every_step_leaves_a_state_to_go_on_from(
    method: Method, tiny_model: LoadedModel, rows: list[Demonstration]
) -> None:
    settings = replace(BASIC, optim=replace(BASIC.optim, steps=5))
    whole = list(method(make_roles(tiny_model, settings.lora), rows, settings))
    for stop in range(1, 5):
        roles = make_roles(tiny_model, settings.lora)
        state = TrainingState.begin(roles, settings)
        events = method(roles, rows, settings, state=state)
        seen = [next(events) for _ in range(stop)]
        events.close()
        assert state.step == stop
        seen += list(method(roles, rows, settings, state=state))
        assert without_times(seen) == without_times(whole)


def test_a_stop_between_phases_drops_the_step(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    for patience in range(1, 30, 3):
        asked = 0

        def stop(patience: int = patience) -> bool:
            nonlocal asked
            asked += 1
            return asked > patience

        asked = 0
        roles = make_roles(tiny_model, BASIC.lora)
        state = TrainingState.begin(roles, BASIC)
        seen = list(sdft(roles, rows, BASIC, state=state, should_stop=stop))
        assert state.step == len(seen) and (len(seen) < 3 or patience > 20)
        assert without_times(seen) == without_times(run(tiny_model, rows, BASIC))[: len(seen)]


def test_a_gradient_that_is_not_finite_leaves_the_adapter_alone(
    tiny_model: LoadedModel, rows: list[Demonstration]
) -> None:
    roles = make_roles(tiny_model, BASIC.lora)
    state = TrainingState.begin(roles, BASIC)
    before = {n: p.detach().clone() for n, p in roles.adapter.items()}
    loss = sum((p * float("nan")).sum() for p in roles.adapter.values())
    with pytest.raises(WorkbenchError, match="gradient of step 1 is not finite.*\n.*lower --lr"):
        state.accumulate(loss)
        state.update(float(loss.detach()))
    assert state.step == 0 and all(torch.equal(p, before[n]) for n, p in roles.adapter.items())


def test_everything_is_checked_before_the_first_step(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    roles = make_roles(tiny_model, BASIC.lora)
    with pytest.raises(InputError, match="no row to teach"):
        sdft(roles, [], BASIC)
    with pytest.raises(InputError, match="contains '<|user|>'".replace("|", r"\|")):
        sdft(roles, [replace(rows[0], demonstration="So <|user|> said")], BASIC)
    with pytest.raises(InputError, match="no place for keep rows"):
        one = replace(BASIC, optim=replace(BASIC.optim, batch=1))
        sdft(roles, rows, one, keep=[Demonstration("q", keep=True)])


@pytest.mark.parametrize(
    ("group", "values", "flag"),
    [
        ("optim", {"steps": -1}, "--steps is -1"),
        ("optim", {"lr": 0}, "--lr is 0"),
        ("optim", {"batch": 0}, "--batch"),
        ("optim", {"seed": -4}, "--seed"),
        ("rollout", {"temperature": 0}, "--temperature"),
        ("rollout", {"top_p": 1.5}, "--top-p"),
        ("rollout", {"rollouts": 5}, "--rollouts is 5; it must be a divisor"),
        ("divergence", {"divergence": "both"}, "--divergence"),
        ("divergence", {"beta": 1.0}, "--beta"),
        ("teacher", {"teacher": "me"}, "--teacher"),
        ("keep", {"keep_share": 1.0}, "--keep-share"),
        ("lora", {"rank": 0}, "--rank"),
        ("lora", {"size": 3}, "Unknown setting 'size'"),
    ],
)
def test_wrong_settings_name_their_flag(group: str, values: dict[str, Any], flag: str) -> None:
    with pytest.raises(InputError, match=flag):
        Settings.from_dict({group: values})


def test_settings_survive_a_dictionary() -> None:
    settings = replace(BASIC, teacher=TeacherSettings(teacher="ema", ema_rate=0.2))
    assert Settings.from_dict(settings.to_dict()) == settings


def test_learning_rate_warms_up_and_falls_to_nothing() -> None:
    settings = OptimSettings(steps=100, lr=1.0, warmup=10)
    rates = [learning_rate(step, settings) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(rates[9])
    assert rates[50] == pytest.approx(0.5) and rates[-1] < 0.001
    assert learning_rate(60, replace(settings, schedule="constant")) == 1.0
    assert learning_rate(51, replace(settings, schedule="linear")) == pytest.approx(0.5)


def test_the_stream_of_rows_passes_over_all_before_any_again() -> None:
    drawn = [row for start in range(0, 60, 4) for row in stream(10, start, 4, seed=3)]
    for epoch in range(6):
        assert sorted(drawn[epoch * 10 : epoch * 10 + 10]) == list(range(10))
    assert drawn[:10] != drawn[10:20] and stream(10, 8, 4, seed=3) == drawn[8:12]
    assert stream(3, 0, 9, seed=0)[:3] != stream(3, 0, 9, seed=0) and len(stream(3, 0, 9, seed=0)) == 9


def test_the_flat_twin_takes_the_same_steps(
    tiny_folder: Path, tiny_model: LoadedModel, rows: list[Demonstration]
) -> None:
    path = Path(__file__).parent.parent / "docs" / "flat_sdft.py"
    spec = importlib.util.spec_from_file_location("flat_sdft", path)
    assert spec and spec.loader
    flat: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flat)
    flat.BATCH, flat.LONGEST, flat.RATE, flat.WARMUP = 6, 8, 2e-3, 2
    settings = replace(BASIC, optim=replace(BASIC.optim, steps=4, warmup=2))
    roles = make_roles(tiny_model, settings.lora)
    ours = [event.loss for event in sdft(roles, rows, settings)]
    *losses, student = flat.flat_sdft(str(tiny_folder), rows, 4)
    assert losses == pytest.approx(ours, rel=1e-4)
    twin = dict(student.named_parameters())
    for name, parameter in roles.adapter.items():
        torch.testing.assert_close(parameter.data, twin[name].data, rtol=1e-3, atol=1e-4)


def test_rows_that_teach_nothing_are_refused_before_the_first_step(
    tiny_model: LoadedModel, rows: list[Demonstration]
) -> None:
    roles = make_roles(tiny_model, BASIC.lora)
    bare = [*rows[:2], Demonstration(prompt="What is it?"), Demonstration(prompt="And that?")]
    with pytest.raises(InputError, match=r"^2 of 4 rows to teach have neither .* first is row 3"):
        sdft(roles, bare, BASIC)
    told = [*rows[:2], Demonstration(prompt="What is it?", context="It is a ball.")]
    assert sdft(roles, told, BASIC) is not None
    with pytest.raises(InputError, match=r"^1 of 3 rows to teach have no demonstration"):
        sft(roles, told, BASIC)
