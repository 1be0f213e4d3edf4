"""Tokens of a batch in buffers that stay where they are, so that a card can be told a whole step at once.

A step of a large model is a few thousand small kernels, and starting them one by one from Python takes longer than
they run. Where the shapes of a step depend on the number of rows alone, and every tensor keeps its address, CUDA
records the step once for each number of rows (a bucket) and starts all of it by one call. Weights are read where they
lie: what is changed in place is seen, an adapter's factors among it (`live.py`).

Recording is off unless $WORKBENCH_CUDA_GRAPHS is 1: it was never run on a card. Nothing that can be raised there ends a
run: whatever fails, or gives other numbers at the next token than the step itself, is said once and done without.

Shapes: B rows, G key/value heads, C columns of the buffers, D head size, V vocabulary.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from workbench.decoding.live import LiveDecoder
from workbench.decoding.packed import FlatDecoder, KeyValues, PackedDecoder

WORTH = 16
"""Tokens that must be left for a recording, which takes as long as some steps, to be made."""

Step = Callable[[], Tensor]
T = TypeVar("T")


class CaptureNote(UserWarning):
    """A step could not be recorded on this card; answers are sampled without."""


class Recording(Protocol):
    """A step of fixed shapes and addresses, to be taken again."""

    def replay(self) -> Tensor:
        """Take it, with what its tensors hold now; the result is overwritten by the next call."""


class CudaGraph:
    """A step as CUDA has recorded it."""

    def __init__(self, step: Step) -> None:
        before = torch.cuda.current_stream()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        try:
            # What libraries allocate at a first call must not be allocated while it is recorded.
            stream.wait_stream(before)
            with torch.cuda.stream(stream):
                step()
            before.wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # What other threads ask the card for meanwhile is no part of it and must not end it.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._result = step()
        finally:
            # A recording that breaks off leaves its own stream behind.
            torch.cuda.set_stream(before)

    def replay(self) -> Tensor:
        """Take the step again."""
        self._graph.replay()
        return self._result


_given_up = False


def recorder(device: torch.device) -> Callable[[Step], Recording] | None:
    """How steps are recorded on this device; None where they are not."""
    wanted = os.environ.get("WORKBENCH_CUDA_GRAPHS") == "1"
    return CudaGraph if wanted and not _given_up and device.type == "cuda" else None


@dataclass
class FixedKeyValues(KeyValues):
    """Keys and values in tensors that stay; each step sees all of them, and columns not yet filled are blocked.

    Attributes:
        column: where the next token goes [1]; on the device, so that a recorded step finds it there.
    """

    column: Tensor = field(kw_only=True)

    @classmethod
    def of(cls, cache: KeyValues) -> FixedKeyValues:
        """Take over a cache with all its room."""
        cache.blocked[:, cache.length :] = True
        column = torch.tensor([cache.length], device=cache.blocked.device)
        return cls(cache.keys, cache.values, cache.blocked, cache.next_position.clone(), cache.length, column=column)

    @property
    def room(self) -> int:
        """Tokens that can still come."""
        return self.blocked.shape[1] - self.length

    def rows(self, index: Tensor) -> FixedKeyValues:
        """Move the chosen rows to the front; the others are overwritten or left over."""
        for buffer in (*self.keys, *self.values, self.blocked, self.next_position):
            buffer[: len(index)] = buffer.index_select(0, index)
        return self

    def front(self, rows: int) -> FixedKeyValues:
        """The first rows of the same tensors."""
        keys, values = ([buffer[:rows] for buffer in buffers] for buffers in (self.keys, self.values))
        return FixedKeyValues(
            keys, values, self.blocked[:rows], self.next_position[:rows], self.length, column=self.column
        )

    def advance(self, new: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Let one more token be seen; see `KeyValues.advance`. `count` says where the next one goes."""
        assert new == 1 and mask is None
        self.blocked.index_fill_(1, self.column, False)
        return self.next_position[:, None], self.blocked

    def hold(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's newest keys and values; see `KeyValues.hold`."""
        for buffer, new in ((self.keys[layer], keys), (self.values[layer], values)):
            buffer.index_copy_(2, self.column, new.transpose(1, 2))
        return self.keys[layer], self.values[layer]

    def count(self) -> None:
        """A token is there. Apart from the step, which can so be taken twice with one result."""
        self.column.add_(1)
        self.next_position.add_(1)
        self.length += 1


class StepDecoder:
    """A decoder's steps over `FixedKeyValues`, recorded where that can be done.

    Args:
        decoder: whose function it is.
        rows: of the cache.
        record: makes a recording; None: every step is taken by itself.
    """

    def __init__(self, decoder: FlatDecoder, rows: int, record: Callable[[Step], Recording] | None) -> None:
        self._decoder, self._record = decoder, record
        self._ids = torch.zeros(rows, 1, dtype=torch.long, device=decoder.embedding.device)
        self._rows = 0
        self._step: Step | None = None
        self._recording: Recording | None = None
        self._checked = False

    def forward(self, ids: Tensor, mask: Tensor | None, cache: FixedKeyValues) -> Tensor:
        """Logits [B, 1, V] of one new token `ids` [B, 1] for each row, which join the cache, until the next call."""
        rows = bucket(len(ids), len(self._ids))
        if self._step is None or rows != self._rows:
            # Rows leave and never come back, so one recording at a time is enough.
            self._rows, self._recording = rows, None
            self._step = partial(self._decoder.forward, self._ids[:rows], mask, cache.front(rows))
        self._ids[: len(ids)] = ids
        logits = self._taken(self._step, cache.room)
        cache.count()
        return logits[: len(ids)]

    def _taken(self, step: Step, room: int) -> Tensor:
        if self._recording is None:
            logits = step()
            if self._record is not None and room > WORTH:
                self._recording, self._checked = self._tried(partial(self._record, step)), False
            return logits
        if self._checked:
            return self._recording.replay()
        # At a token of its own: one that was recorded in part still gives what the recorded token gave.
        found, expected = self._tried(self._recording.replay), step()
        if found is not None:
            self._checked = bool((found - expected).abs().max() <= 2e-2 * expected.abs().max())
            if not self._checked:
                self._give_up("a recorded step gave other numbers than the step itself")
        return expected

    def _tried(self, call: Callable[[], T]) -> T | None:
        """What a call gives; None where it fails, and from then on steps are taken one by one."""
        try:
            return call()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a driver or a library raises, the step works without
            self._give_up(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            return None

    def _give_up(self, reason: str) -> None:
        global _given_up
        _given_up = True
        self._recording = self._record = None
        said = f"CUDA graphs are not used: {reason}. Answers are sampled without them."
        warnings.warn(said, CaptureNote, stacklevel=2)


def bucket(rows: int, most: int) -> int:
    """For how many rows a step is taken where there are `rows` of at most `most`: a power of two, or all."""
    return min(most, 1 << (rows - 1).bit_length())


def in_steps(decoder: Any, cache: Any) -> tuple[Any, Any]:
    """What takes the steps after a prompt was read: the decoder and its cache, or both in fixed buffers."""
    if type(decoder) not in (LiveDecoder, PackedDecoder):
        return decoder, cache
    record = recorder(decoder.embedding.device)
    if record is None:
        return decoder, cache
    return StepDecoder(decoder, len(cache.next_position), record), FixedKeyValues.of(cache)
