"""Fewer answers at a time: the same step up to rounding, and the way there when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.test_training import BASIC, without_times
from workbench.allocations import ran_out
from workbench.decoding import ModelDecoder
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.events import Step, from_dict, to_dict
from workbench.execution import Execution, answers_in_a_row
from workbench.models import LoadedModel
from workbench.roles import Roles, make_roles
from workbench.settings import DivergenceSettings, KeepSettings, RolloutSettings, Settings, TeacherSettings
from workbench.training import TrainingState, sdft, sft
from workbench.training import parts as sampling_parts
from workbench.training.student import checkpointed, completion_predictions

FEW = Execution(micro_batch=2, at_once=4)
Method = Callable[..., Any]


def roles_of(model: LoadedModel, settings: Settings = BASIC, packed: bool = True) -> Roles:
    """Roles, over packed weights or through the model's own forward as a large model is run."""
    roles = make_roles(model, settings.lora)
    if not packed:
        roles.base_decoder, roles.student_decoder = ModelDecoder(model.model), ModelDecoder(roles.student)
    return roles


def gradient(roles: Roles, method: Method, rows: Any, settings: Settings, work: Execution, keep: Any = ()) -> Any:
    """The first step's event, and the gradients it was taken with."""
    state = TrainingState.begin(roles, settings)
    found: list[torch.Tensor] = []
    own = state.update

    def update(loss: float) -> Any:
        found.extend(p.grad.clone() for p in roles.adapter.values() if p.grad is not None)
        return own(loss)

    state.update = update  # type: ignore[method-assign]
    event = next(method(roles, rows, settings, keep=keep, state=state, execution=work))
    return event, found


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rollouts": {"rollout": RolloutSettings(rollouts=3, max_new_tokens=8)},
    "reverse, skipped": {"divergence": DivergenceSettings(divergence="reverse", skip_tokens=2)},
    "anchor": {"divergence": DivergenceSettings(anchor=0.5, skip_tokens=0)},
    "keep, ema": {"keep": KeepSettings(0.5), "teacher": TeacherSettings(teacher="ema")},
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("work", [FEW, Execution(micro_batch=3), Execution(at_once=1), Execution(4, 5, True)], ids=str)
def test_a_step_in_parts_is_the_same_step(
    work: Execution,
    name: str,
    packed: bool,
    tiny_model: LoadedModel,
    rows: list[Demonstration],
    keep_rows: list[Demonstration],
) -> None:
    settings = replace(BASIC, **VARIANTS[name])
    keep = keep_rows if name.startswith("keep") else ()
    whole, expected = gradient(roles_of(tiny_model, settings, packed), sdft, rows, settings, Execution(), keep)
    event, found = gradient(roles_of(tiny_model, settings, packed), sdft, rows, settings, work, keep)
    scale = max(float(g.abs().max()) for g in expected)
    assert scale > 1e-4
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5 * scale)
    for field in ("loss", "gradient_norm", "tokens", "length", "entropy", "agreement"):
        assert getattr(event, field) == pytest.approx(getattr(whole, field), rel=1e-5), field
    assert event.keep_loss == (None if whole.keep_loss is None else pytest.approx(whole.keep_loss, abs=1e-6))
    for mine, reference in zip(event.samples, whole.samples, strict=True):
        assert mine.tokens == reference.tokens
        assert mine.divergence == pytest.approx(reference.divergence, abs=1e-4)
        assert [[t for t, _ in c.student] for c in mine.choices] == [
            [t for t, _ in c.student] for c in reference.choices
        ]
    assert len(event.samples[0].choices) == len(event.samples[0].tokens)


@pytest.mark.parametrize(("prefix_bytes", "read"), [(0, [4, 4, 4]), (10**9, [12, 0, 0])])
def test_prompts_are_kept_from_step_to_step_as_the_execution_says(
    prefix_bytes: int, read: list[int], tiny_model: LoadedModel, rows: list[Demonstration]
) -> None:
    settings = replace(BASIC, optim=replace(BASIC.optim, steps=3, batch=4))
    roles = roles_of(tiny_model, settings)
    counts: list[int] = []
    run = roles.base_decoder.forward_hidden

    def noting(ids: torch.Tensor, mask: torch.Tensor | None, *rest: Any, **more: Any) -> torch.Tensor:
        counts.append(0 if mask is None else len(ids))  # what is scored has no mask
        return run(ids, mask, *rest, **more)

    roles.base_decoder.forward_hidden = noting  # type: ignore[method-assign]
    found = []
    for _ in sdft(roles, rows, settings, execution=Execution(prefix_bytes=prefix_bytes)):
        found.append(sum(counts))
        counts.clear()
    assert found == read


@pytest.mark.parametrize("packed", [True, False])
def test_sft_in_parts_is_the_same_step(packed: bool, tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    whole, expected = gradient(roles_of(tiny_model, packed=packed), sft, rows, BASIC, Execution())
    event, found = gradient(roles_of(tiny_model, packed=packed), sft, rows, BASIC, Execution(micro_batch=2))
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5 * float(reference.abs().max()))
    assert (event.loss, event.entropy) == pytest.approx((whole.loss, whole.entropy), rel=1e-5)


def test_a_model_whose_head_is_not_known_takes_the_same_step(
    tiny_model: LoadedModel, rows: list[Demonstration]
) -> None:
    _, expected = gradient(roles_of(tiny_model, packed=False), sdft, rows, BASIC, Execution())
    roles = roles_of(tiny_model, packed=False)
    roles.__dict__["head"] = None
    event, found = gradient(roles, sdft, rows, BASIC, FEW)
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5 * float(reference.abs().max()))
    assert len(event.samples[0].choices) == len(event.samples[0].tokens)


@pytest.mark.parametrize(
    ("rollouts", "steps", "expected"), [(8, 256, 8), (8, 257, 4), (8, 2000, 1), (6, 700, 2), (5, 500, 1), (1, 9, 1)]
)
def test_as_many_answers_as_fit_lie_in_one_row(rollouts: int, steps: int, expected: int) -> None:
    assert answers_in_a_row(rollouts, steps) == expected


def test_checkpointing_keeps_less_and_leaves_no_trace(tiny_model: LoadedModel, rows: list[Demonstration]) -> None:
    roles = roles_of(tiny_model, packed=False)
    ids = torch.ones(4, 20, dtype=torch.long)
    from workbench.sampling import Completions

    def kept(checkpointing: bool) -> int:
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            held = completion_predictions(roles, Completions(ids, ids, ids, ids), checkpointing)
        assert held.values.requires_grad
        return sum(sizes.values())

    assert kept(True) < 0.5 * kept(False)
    with checkpointed(roles.student):
        pass
    assert not any(module.training for module in roles.student.modules())


class Failing:
    """Raises an error of memory the first `times` times that a function is called with the step at `at`."""

    def __init__(self, function: Any, state: TrainingState, at: int, times: int = 1) -> None:
        self.function, self.state, self.at, self.left = function, state, at, times

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.state.step == self.at and self.left > 0:
            self.left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.function(*args, **kwargs)


def inject(phase: str, state: TrainingState, patch: pytest.MonkeyPatch, at: int, times: int = 1) -> None:
    module = __import__("sys").modules["workbench.training.sdft"]
    if phase == "sample":
        patch.setattr(sampling_parts, "sample", Failing(sampling_parts.sample, state, at, times))
    elif phase == "teacher":
        patch.setattr(module, "teach", Failing(module.teach, state, at, times))
    elif phase == "student":
        patch.setattr(module, "completion_predictions", Failing(module.completion_predictions, state, at, times))
    elif phase == "backward":
        patch.setattr(state, "accumulate", Failing(state.accumulate, state, at, times))
    else:
        patch.setattr(state.optimizer, "step", Failing(state.optimizer.step, state, at, times))


@pytest.mark.parametrize("phase", ["sample", "teacher", "student", "backward", "update"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_step_without_memory_is_taken_again_as_if_planned_so(
    phase: str, packed: bool, tiny_model: LoadedModel, rows: list[Demonstration], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(BASIC, teacher=TeacherSettings(teacher="ema", ema_rate=0.5))
    smaller = Execution(at_once=3) if phase == "sample" else Execution(micro_batch=3)
    roles = roles_of(tiny_model, settings, packed)
    state = TrainingState.begin(roles, settings)
    inject(phase, state, monkeypatch, at=1)
    seen: list[Step] = list(sdft(roles, rows, settings, state=state))
    monkeypatch.undo()

    other = roles_of(tiny_model, settings, packed)
    planned = TrainingState.begin(other, settings)
    expected = [next(sdft(other, rows, settings, state=planned))]
    expected += list(sdft(other, rows, settings, state=planned, execution=smaller))
    assert [e.smaller for e in seen] == [
        None,
        {"micro_batch": smaller.micro_batch, "at_once": smaller.at_once},
        None,
    ]
    assert without_times([replace(e, smaller=None) for e in seen]) == without_times(expected)
    for name, value in state.tensors().items():
        assert torch.equal(value, planned.tensors()[name]), name
    assert from_dict(to_dict(seen[1])) == seen[1]


def test_sft_takes_it_again_too(
    tiny_model: LoadedModel, rows: list[Demonstration], monkeypatch: pytest.MonkeyPatch
) -> None:
    roles, other = roles_of(tiny_model), roles_of(tiny_model)
    state = TrainingState.begin(roles, BASIC)
    monkeypatch.setattr(state, "accumulate", Failing(state.accumulate, state, at=0, times=2))
    seen = list(sft(roles, rows, BASIC, state=state))
    assert [e.smaller for e in seen] == [{"micro_batch": 1, "at_once": 0}, None, None]
    expected = list(sft(other, rows, BASIC, execution=Execution(micro_batch=1)))
    assert without_times([replace(e, smaller=None) for e in seen]) == without_times(expected)


@pytest.mark.parametrize("phase", ["sample", "student"])
def test_with_one_answer_at_a_time_it_gives_up_and_says_what_to_do(
    phase: str, tiny_model: LoadedModel, rows: list[Demonstration], monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = roles_of(tiny_model)
    state = TrainingState.begin(roles, BASIC)
    inject(phase, state, monkeypatch, at=1, times=99)
    events = sdft(roles, rows, BASIC, state=state)
    next(events)
    before = {name: value.clone() for name, value in state.tensors().items()}
    with pytest.raises(InputError, match="one answer at a time.*2.00 GiB.*\n.*max-new-tokens"):
        next(events)
    assert state.step == 1 and all(torch.equal(value, before[name]) for name, value in state.tensors().items())


def test_only_errors_of_memory_are_taken_for_such() -> None:
    assert ran_out(torch.OutOfMemoryError("x")) and ran_out(MemoryError())
    assert ran_out(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4 GB"))
    assert not ran_out(RuntimeError("shapes do not match")) and not ran_out(ValueError("out of memory"))


def test_another_error_is_not_caught(
    tiny_model: LoadedModel, rows: list[Demonstration], monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = roles_of(tiny_model)
    state = TrainingState.begin(roles, BASIC)

    def broken(_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(state, "accumulate", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        next(sdft(roles, rows, BASIC, state=state))


def test_execution_is_checked_and_survives_a_dictionary() -> None:
    with pytest.raises(InputError, match="--micro-batch is -1"):
        Execution(micro_batch=-1)
    assert Execution.from_dict({**FEW.to_dict(), "of another version": 3}) == FEW
    assert Execution().halved(1, sampling=False) is None
    assert FEW.halved(32, sampling=True) == Execution(2, 2) and FEW.halved(32, sampling=False) == Execution(1, 4)
