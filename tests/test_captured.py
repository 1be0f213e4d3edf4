"""Steps in fixed buffers give the tokens of those that grow, taken one by one or recorded and replayed.

Without a card nothing is captured here: `Recorded` stands in for CUDA. It keeps to what CUDA does: the operations of
one step with the tensors that they had, and nothing that Python does around them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.test_decoding import PROMPTS, taught
from workbench.decoding import LiveDecoder, ModelDecoder, PackedDecoder, captured
from workbench.decoding.captured import CaptureNote, FixedKeyValues, StepDecoder, bucket
from workbench.roles import Roles
from workbench.sampling import COUNT_EVERY, Choice, sample

pytestmark = pytest.mark.filterwarnings("error::workbench.decoding.captured.CaptureNote")

ENDING = {"end": frozenset(range(3, 40)), "pad": 0, "longest": 40, "rollouts": 4, "seed": 3}


class Recorded(TorchDispatchMode):
    """The operations of a step. Each is done again into the tensors that it gave when it was recorded."""

    made: list[Recorded] = []

    def __init__(self, step: Callable[[], Tensor]) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Any]]] = []
        self.replays = 0
        with self:
            self.result = step()
        self.rows = len(self.result)
        self.made.append(self)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, tree_leaves(found)))
        return found

    def replay(self) -> Tensor:
        self.replays += 1
        for function, args, kwargs, first in self.calls:
            for into, again in zip(first, tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(into, Tensor) and into.data_ptr() != again.data_ptr():  # a view has its own already
                    into.copy_(again)
        return self.result


@pytest.fixture(params=["qwen3", "qwen2", "llama"])
def roles(request: pytest.FixtureRequest, tmp_path: Path) -> Roles:
    return taught(tmp_path, request.param)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(captured, "_given_up", False)
    Recorded.made = []
    yield


def recording(monkeypatch: pytest.MonkeyPatch, how: Any = Recorded) -> None:
    """Let steps be recorded by this, as they would be on a card."""
    monkeypatch.setattr(captured, "recorder", lambda _: None if captured._given_up else how)


@pytest.mark.parametrize("choice", [Choice(0.0), Choice(1.0), Choice(0.8, top_p=0.9, top_k=20)], ids=str)
@pytest.mark.parametrize("over", [LiveDecoder, PackedDecoder])
def test_recorded_steps_give_the_same_tokens(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, choice: Choice, over: type
) -> None:
    decoder = over(roles.student)
    expected = sample(decoder, PROMPTS, choice=choice, **ENDING).lists()
    recording(monkeypatch)
    assert sample(decoder, PROMPTS, choice=choice, **ENDING).lists() == expected
    assert Recorded.made and sum(made.replays for made in Recorded.made) > 5


def test_steps_taken_one_by_one_in_fixed_buffers_give_the_same_tokens(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = LiveDecoder(roles.student)
    expected = sample(decoder, PROMPTS, **ENDING).lists()
    monkeypatch.setattr(captured, "recorder", lambda _: lambda step: None)
    fixed: list[int] = []
    count = FixedKeyValues.count
    monkeypatch.setattr(FixedKeyValues, "count", lambda self: (fixed.append(self.length), count(self))[1])
    assert sample(decoder, PROMPTS, **ENDING).lists() == expected
    assert fixed == list(range(4, 4 + max(map(len, expected)) - 1))


def test_each_bucket_is_recorded_once_and_checked_at_the_token_after(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording(monkeypatch)
    steps: list[int] = []
    own = LiveDecoder.forward

    def forward(self: LiveDecoder, ids: Tensor, mask: Any, *more: Any, **named: Any) -> Tensor:
        if mask is None:
            steps.append(len(ids))
        return own(self, ids, mask, *more, **named)

    monkeypatch.setattr(LiveDecoder, "forward", forward)
    lengths = sorted(map(len, sample(LiveDecoder(roles.student), PROMPTS, **ENDING).lists()))
    assert len(set(lengths)) > 3, "rows should leave one after the other"
    sizes = [made.rows for made in Recorded.made]
    assert sizes == sorted(set(sizes), reverse=True) and len(sizes) > 1 and set(sizes) <= {12, 8, 4, 2, 1}
    for size, made in zip(sizes, Recorded.made, strict=True):
        # By itself, while it is recorded, and beside the first replay; every other token is a replay.
        assert steps.count(size) == 3 if made.replays > 1 else steps.count(size) <= 3
        assert made.replays > 0


def test_nothing_waits_for_the_device_at_each_token(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    class Waits(TorchDispatchMode):
        """Counts what brings a number, or a shape that depends on numbers, from the device."""

        count = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
                Waits.count += 1
            return function(*args, **(kwargs or {}))

    monkeypatch.setitem(COUNT_EVERY, "cpu", 8)
    recording(monkeypatch)
    decoder = LiveDecoder(roles.student)
    counts = []
    for longest in (24, 48):
        Waits.count = 0
        with Waits():
            sample(decoder, PROMPTS, end=frozenset({3}), pad=0, longest=longest, choice=Choice(1.0, top_p=0.9))
        counts.append(Waits.count)
    # One for every 8 tokens, and some for the prompt, the check of a recording and the end.
    assert 0 < counts[1] - counts[0] <= 24 // 8 + 2
    assert counts[0] <= 24 // 8 + 8


def again(cache: FixedKeyValues) -> None:
    """Let the last token come once more."""
    cache.column.sub_(1)
    cache.next_position.sub_(1)
    cache.length -= 1


def test_a_recording_sees_an_adapter_that_was_changed_in_place(roles: Roles) -> None:
    decoder = LiveDecoder(roles.student)
    cache = decoder.allocate(2, 32)
    decoder.forward(torch.tensor([[5, 6], [7, 8]]), torch.ones(2, 2, dtype=torch.long), cache)
    steps, fixed = StepDecoder(decoder, 2, Recorded), FixedKeyValues.of(cache)
    for token in (9, 10, 11):
        steps.forward(torch.tensor([[token], [token]]), None, fixed)
    before = steps.forward(torch.tensor([[12], [13]]), None, fixed).clone()
    for parameter in roles.adapter.values():
        parameter.data.mul_(-1.5)
    decoder.refresh()
    again(fixed)
    after = steps.forward(torch.tensor([[12], [13]]), None, fixed)
    again(fixed)
    own = StepDecoder(decoder, 2, None).forward(torch.tensor([[12], [13]]), None, fixed)
    assert Recorded.made[0].replays == 4
    torch.testing.assert_close(after, own)
    assert not torch.allclose(after, before, atol=1e-3)


class Stale:
    """A recording that lacks a part: it gives what it gave when it was made."""

    def __init__(self, step: Callable[[], Tensor]) -> None:
        self.result = step().clone()

    def replay(self) -> Tensor:
        return self.result


class Breaks:
    """A recording that cannot be replayed."""

    def __init__(self, step: Callable[[], Tensor]) -> None:
        step()

    def replay(self) -> Tensor:
        raise RuntimeError("invalid resource handle")


def refused(step: Callable[[], Tensor]) -> Any:
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (refused, "RuntimeError: operation not permitted"),
        (Breaks, "RuntimeError: invalid resource handle"),
        (Stale, "other numbers"),
    ],
)
def test_what_cannot_be_recorded_is_said_once_and_sampled_without(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, how: Any, said: str
) -> None:
    decoder = LiveDecoder(roles.student)
    expected = sample(decoder, PROMPTS, **ENDING).lists()
    recording(monkeypatch, how)
    with pytest.warns(CaptureNote, match=said) as notes:
        assert sample(decoder, PROMPTS, **ENDING).lists() == expected
    assert len(notes) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sample(decoder, PROMPTS, **ENDING).lists() == expected


def test_memory_that_runs_out_while_recording_is_not_kept_quiet(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(step: Any) -> Any:
        raise torch.OutOfMemoryError

    recording(monkeypatch, full)
    with pytest.raises(torch.OutOfMemoryError):
        sample(LiveDecoder(roles.student), PROMPTS, **ENDING)


def test_off_unless_asked_for_and_on_a_card_alone(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    card, computer = torch.device("cuda"), torch.device("cpu")
    monkeypatch.delenv("WORKBENCH_CUDA_GRAPHS", raising=False)
    assert captured.recorder(card) is None
    monkeypatch.setenv("WORKBENCH_CUDA_GRAPHS", "1")
    assert captured.recorder(card) is captured.CudaGraph and captured.recorder(computer) is None
    decoder = ModelDecoder(roles.student)
    assert captured.in_steps(decoder, None) == (decoder, None)


def test_buckets_are_powers_of_two_and_all() -> None:
    assert [bucket(n, 12) for n in (12, 11, 9, 8, 7, 5, 4, 3, 2, 1)] == [12, 12, 12, 8, 8, 8, 4, 4, 2, 1]
