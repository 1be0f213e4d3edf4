"""Several sets of weights of one model run forward together: one row is the base's, the next the student's.

On a small model a decode step costs what its many small operations cost to start, not what they compute. Base and
student differ in the projections alone, so their rows share all the rest: embedding, norms, rotation, attention and
head are done once for all rows, and each projection is one batched product of the rows with their sets' weights.
A prompt is read by its own decoder, without the padding that the longest one would cost all.

Shapes: W sets of weights, B rows, those of a set together; T new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from workbench.decoding.packed import KeyValues, PackedDecoder

STACK_AT_MOST = 100_000_000
"""Bytes of one set's weights up to which a second copy is cheap and a step is mostly overhead."""

_PARTS = ("qkv", "out", "gate_up", "down")


def stackable(decoders: Sequence[Any]) -> bool:
    """Whether these decoders are small, packed, and differ in their projections alone."""
    first = decoders[0]
    if not all(isinstance(d, PackedDecoder) and d.embedding is first.embedding for d in decoders):
        return False
    if not all(d.head is first.head and d.final_norm is first.final_norm for d in decoders):
        return False
    weights = [getattr(layer, part) for layer in first.layers for part in _PARTS]
    size = sum(p.weight.numel() * p.weight.element_size() for p in weights)
    return size <= STACK_AT_MOST and all(p.bias is None for p in weights)


@dataclass
class StackedKeyValues(KeyValues):
    """Keys and values of B rows; `sizes` says how many of them are each set's, in the order of the sets."""

    sizes: tuple[int, ...] = ()

    def rows(self, index: Tensor) -> StackedKeyValues:
        """The cache of the chosen rows only (rows may repeat); raises ValueError if that mixes the sets up."""
        chosen = super().rows(index)
        sets = torch.bucketize(index.cpu(), torch.tensor(self.sizes).cumsum(0), right=True)
        if bool((sets.diff() < 0).any()):
            raise ValueError("the rows of one set of weights must lie together")
        sizes = tuple(torch.bincount(sets, minlength=len(self.sizes)).tolist())
        return _stacked(chosen, sizes)


def _stacked(cache: KeyValues, sizes: tuple[int, ...]) -> StackedKeyValues:
    return StackedKeyValues(cache.keys, cache.values, cache.blocked, cache.next_position, cache.length, sizes=sizes)


class _Each:
    """One projection of all sets: rows [B, T, in] times weights [W, in, out], each row with its own set's."""

    def __init__(self, weights: Tensor, sizes: tuple[int, ...]) -> None:
        going = [i for i, size in enumerate(sizes) if size]
        self._sizes = [sizes[i] for i in going]
        self._even = len(set(self._sizes)) == 1
        self._weights = weights if len(going) == len(sizes) else weights[going]

    def __call__(self, x: Tensor) -> Tensor:
        if self._even:
            y = torch.bmm(x.reshape(len(self._sizes), -1, x.shape[-1]), self._weights)
            return y.view(*x.shape[:-1], -1)
        return torch.cat(
            [part @ weight for part, weight in zip(torch.split(x, self._sizes), self._weights, strict=True)]
        )


class StackedDecoder(PackedDecoder):
    """Rows of several packed decoders in one batch.

    Args:
        decoders: one for each set of weights (`stackable`). They are looked at again in each `allocate`, so that a
            student that was taught meanwhile answers as it is now.
    """

    def __init__(self, decoders: Sequence[PackedDecoder]) -> None:
        # All but the layers is the first one's, which is every one's.
        self.__dict__.update(decoders[0].__dict__)
        self._decoders = tuple(decoders)
        self._seen: list[Any] = [None] * len(decoders)
        shapes = [[getattr(layer, part).weight for part in _PARTS] for layer in decoders[0].layers]
        self._weights = [[w.new_empty(len(decoders), w.shape[1], w.shape[0]) for w in layer] for layer in shapes]
        self._bound: dict[tuple[int, ...], list[Any]] = {}
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the weights of the decoders that were refreshed since they were looked at last."""
        for index, decoder in enumerate(self._decoders):
            if self._seen[index] is decoder.layers:
                continue
            self._seen[index] = decoder.layers
            self._bound.clear()
            for layer, weights in zip(decoder.layers, self._weights, strict=True):
                for part, weight in zip(_PARTS, weights, strict=True):
                    weight[index] = getattr(layer, part).weight.T

    def allocate(self, rows: int, capacity: int) -> StackedKeyValues:
        """Empty buffers for `rows` rows, as many for each set as for the others."""
        self.refresh()
        each, left = divmod(rows, len(self._decoders))
        if left:
            raise ValueError(f"{rows} rows cannot be dealt out evenly to {len(self._decoders)} sets of weights")
        return _stacked(super().allocate(rows, capacity), (each,) * len(self._decoders))

    @torch.no_grad()
    def forward(
        self,
        ids: Tensor,
        mask: Tensor | None,
        cache: KeyValues,
        keep: int = 1,
        record: list[tuple[Tensor, Tensor, Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Logits [B, keep, V] of the last `keep` of the new tokens `ids` [B, T]; see `PackedDecoder.forward`."""
        held = cast(StackedKeyValues, cache)
        if mask is not None and held.length == 0:
            return self._read(ids, mask, held, keep)
        if held.sizes not in self._bound:
            self._bound[held.sizes] = self._bind(held.sizes)
        self.layers = self._bound[held.sizes]
        return super().forward(ids, mask, held, keep, record)

    def _read(self, ids: Tensor, mask: Tensor, cache: StackedKeyValues, keep: int) -> Tensor:
        """Fill the cache with prompts, those of each set read by its own decoder."""
        width, start, logits = ids.shape[1], 0, []
        for decoder, size in zip(self._decoders, cache.sizes, strict=True):
            rows = slice(start, start + size)
            start += size
            skip = width - int(mask[rows].sum(1).max())  # padding that all of these rows have
            own = decoder.allocate(size, width - skip)
            logits.append(decoder.forward(ids[rows, skip:], mask[rows, skip:], own, keep))
            for mine, theirs in ((cache.keys, own.keys), (cache.values, own.values)):
                for into, read in zip(mine, theirs, strict=True):
                    into[rows, :, skip:width] = read
            cache.next_position[rows] = own.next_position
        cache.blocked[:, :width] = mask == 0
        cache.length = width
        return torch.cat(logits)

    def _bind(self, sizes: tuple[int, ...]) -> list[Any]:
        """Layers whose projections send so many rows through each set's weights."""
        bound = []
        for layer, weights in zip(self._decoders[0].layers, self._weights, strict=True):
            parts: dict[str, Any] = {part: _Each(w, sizes) for part, w in zip(_PARTS, weights, strict=True)}
            bound.append(
                type(layer)(
                    attention_norm=layer.attention_norm, qk_norm=layer.qk_norm, mlp_norm=layer.mlp_norm, **parts
                )
            )
        return bound
