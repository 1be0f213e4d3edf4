"""Several adapters of one base run forward together: one row is the base's, the next the student's.

Their weights differ by LoRA updates alone, so all rows share one product with the base's weights, and a student's rows
add their own B A x to it. The weights are read from memory once for all, and the many small operations around the
products (norms, rotation, attention, sampling) are started once. Prompts are read together where they are as long as
each other, and alone where not, without the padding that the longest one would cost all.

Shapes: B rows, those of a set together; T new tokens, R sum of the ranks in one packed projection, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from workbench.decoding.packed import KeyValues, PackedDecoder
from workbench.decoding.products import FEWEST_ROWS
from workbench.decoding.projection import Projection

_PARTS = ("qkv", "out", "gate_up", "down")

TURN_AT_MOST = 64_000_000
"""Bytes of weights that are also kept turned round: a product of few rows takes three quarters of the time by them."""


def stackable(base: Any, decoders: Sequence[Any]) -> bool:
    """Whether these decoders are packed, and each is `base` itself or an adapter over the same weights."""
    if not isinstance(base, PackedDecoder) or any(p.factors for layer in base.layers for p in _projections(layer)):
        return False
    return all(
        isinstance(d, PackedDecoder) and d.embedding is base.embedding and d.final_norm is base.final_norm
        for d in decoders
    )


def _projections(layer: Any) -> list[Projection]:
    return [getattr(layer, part) for part in _PARTS]


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


@dataclass(frozen=True, slots=True)
class _Update:
    """The LoRA update of one packed projection: y += x `a` `b`, with `a` [in, R] and `b` [R, out] (scale included)."""

    a: Tensor
    b: Tensor


def _update_of(projection: Projection) -> _Update | None:
    if not projection.factors:
        return None
    a = torch.cat([f.a for f in projection.factors]).T.contiguous()
    b = a.new_zeros(a.shape[1], projection.weight.shape[0])
    at = 0
    for f in projection.factors:
        b[at : at + f.a.shape[0], f.start : f.stop] = f.scale * f.b.T
        at += f.a.shape[0]
    return _Update(a, b)


@dataclass(frozen=True, slots=True)
class _Shared:
    """A base's projection of all rows [B, T, in], with an update for some: rows `start` to `stop`.

    `turned` is its weight as [in, out], where that is kept.
    """

    base: Projection
    turned: Tensor | None
    updates: list[tuple[int, int, _Update]]

    def __call__(self, x: Tensor) -> Tensor:
        tokens, flat = x.shape[1], x.reshape(-1, x.shape[-1])
        y = self.base(flat) if self.turned is None or len(flat) >= FEWEST_ROWS else torch.mm(flat, self.turned)
        for start, stop, update in self.updates:
            part = slice(start * tokens, stop * tokens)
            y[part].addmm_(flat[part] @ update.a, update.b)
        return y.view(*x.shape[:-1], -1)


class StackedDecoder(PackedDecoder):
    """Rows of several packed decoders in one batch.

    Args:
        base: the weights that all share.
        decoders: whose rows they are, in this order (`stackable`); `base` may be among them, and more than once. They
            are looked at again in each `allocate`, so that a student that was taught meanwhile answers as it is now.
    """

    def __init__(self, base: PackedDecoder, decoders: Sequence[PackedDecoder]) -> None:
        # All but the layers is the base's, which is every one's.
        self.__dict__.update(base.__dict__)
        self._base = base
        self._decoders = tuple(decoders)
        self._seen: list[Any] = [None] * len(decoders)
        self._updates: list[list[list[_Update | None]]] = [[] for _ in decoders]
        self._bound: dict[tuple[int, ...], list[Any]] = {}
        projections = [_projections(layer) for layer in base.layers]
        size = sum(p.weight.numel() * p.weight.element_size() for parts in projections for p in parts)
        self._turned: list[list[Tensor | None]] = [
            [p.weight.T.contiguous() if size <= TURN_AT_MOST and p.bias is None else None for p in parts]
            for parts in projections
        ]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the updates of the decoders that were refreshed since they were looked at last."""
        for index, decoder in enumerate(self._decoders):
            if self._seen[index] is decoder.layers:
                continue
            self._seen[index] = decoder.layers
            self._bound.clear()
            self._updates[index] = [[_update_of(p) for p in _projections(layer)] for layer in decoder.layers]

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
        self._take(held.sizes)
        return super().forward(ids, mask, held, keep, record)

    def _take(self, sizes: tuple[int, ...]) -> None:
        """Take the layers for so many rows of each set."""
        if sizes not in self._bound:
            self._bound[sizes] = self._bind(sizes)
        self.layers = self._bound[sizes]

    def _read(self, ids: Tensor, mask: Tensor, cache: StackedKeyValues, keep: int) -> Tensor:
        """Fill the cache with prompts, those of sets whose longest is as long as each other's in one go."""
        width, lengths = ids.shape[1], [int(own.sum(1).max()) for own in torch.split(mask, list(cache.sizes))]
        of_row = torch.repeat_interleave(torch.tensor(lengths), torch.tensor(cache.sizes))
        logits = ids.new_empty(())
        for length in dict.fromkeys(lengths):
            rows = (of_row == length).nonzero()[:, 0].to(ids.device)
            sizes = tuple(size if own == length else 0 for size, own in zip(cache.sizes, lengths, strict=True))
            self._take(sizes)
            own = super().allocate(len(rows), length)
            skip = width - length  # padding that all of these rows have
            found = super().forward(ids[rows, skip:], mask[rows, skip:], own, keep)
            for mine, theirs in ((cache.keys, own.keys), (cache.values, own.values)):
                for into, read in zip(mine, theirs, strict=True):
                    into[rows, :, skip:width] = read
            cache.next_position[rows] = own.next_position
            if not logits.dim():
                logits = found.new_empty(len(ids), *found.shape[1:])
            logits[rows] = found
        cache.blocked[:, :width] = mask == 0
        cache.length = width
        return logits

    def _bind(self, sizes: tuple[int, ...]) -> list[Any]:
        """Layers whose projections update so many rows of each decoder."""
        there = [decoder for decoder, size in zip(self._decoders, sizes, strict=True) if size]
        if len(there) == 1:
            return there[0].layers
        ends = torch.tensor(sizes).cumsum(0).tolist()
        bound = []
        for number, layer in enumerate(self._base.layers):
            parts: dict[str, Any] = {}
            for place, part in enumerate(_PARTS):
                updates = [
                    (end - size, end, update)
                    for size, end, own in zip(sizes, ends, self._updates, strict=True)
                    if size and (update := own[number][place]) is not None
                ]
                parts[part] = _Shared(getattr(layer, part), self._turned[number][place], updates)
            bound.append(replace(layer, **parts))
        return bound
