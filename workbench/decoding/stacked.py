"""Several adapters of one base run forward together: one row is the base's, the next the student's.

Their weights differ by LoRA updates alone, so all rows share one product with the base's weights, and a student's rows
add their own B A x to it. The weights are read from memory once for all, and the many small operations around the
products (norms, rotation, sampling) are started once. Prompts are read together too, token by token one after the
other, without the padding that the longest one would cost all; only attention is worked out for each alone.

Shapes: B rows, those of a set together; T new tokens, R sum of the ranks in one packed projection, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.decoding.packed import KeyValues, PackedDecoder
from workbench.decoding.products import linear
from workbench.decoding.projection import Projection

_PARTS = ("qkv", "out", "gate_up", "down")


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
        sets = torch.bucketize(index.cpu(), torch.tensor(self.sizes).cumsum(0), right=True)
        if bool((sets.diff() < 0).any()):
            raise ValueError("the rows of one set of weights must lie together")
        sizes = tuple(torch.bincount(sets, minlength=len(self.sizes)).tolist())
        return _stacked(super().rows(index), sizes)


def _stacked(cache: KeyValues, sizes: tuple[int, ...]) -> StackedKeyValues:
    return StackedKeyValues(cache.keys, cache.values, cache.blocked, cache.next_position, cache.length, sizes=sizes)


@dataclass
class _Prompts:
    """Prompts on their way into a cache: the tokens [N, 1] of all its rows one after the other, without padding.

    Attributes:
        lengths: tokens of each row.
        width: those of the longest; shorter ones are padded on the left in the cache.
    """

    into: StackedKeyValues
    lengths: list[int]
    width: int

    def advance(self, new: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The positions [N, 1] of the tokens; none is blocked, for each prompt is attended to by itself."""
        device = self.into.blocked.device
        positions = torch.cat([torch.arange(length, device=device) for length in self.lengths])[:, None]
        return positions, self.into.blocked.new_zeros(len(positions), 0)


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
    """A base's projection of all rows [B, T, in], with an update for some: rows `start` to `stop`."""

    base: Projection
    updates: list[tuple[int, int, _Update]]

    def __call__(self, x: Tensor) -> Tensor:
        tokens, flat = x.shape[1], x.reshape(-1, x.shape[-1])
        y = self.base(flat)
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
        """Fill the cache with prompts: all of their tokens in one go, as so many rows of one token each."""
        cache.next_position = mask.sum(1)
        prompts = _Prompts(cache, cache.next_position.tolist(), ids.shape[1])
        of_sets = torch.split(torch.tensor(prompts.lengths), list(cache.sizes))
        self.layers = self._bind(tuple(int(own.sum()) for own in of_sets))
        hidden = super().forward_hidden(ids[mask > 0][:, None], None, cast(Any, prompts))[:, 0]
        cache.blocked[:, : prompts.width] = mask == 0
        cache.length = prompts.width
        ends = cache.next_position.cumsum(0)
        kept = ends[:, None] - torch.arange(keep, 0, -1, device=ends.device)
        return linear(hidden[kept.clamp(min=0)], self.head)

    def attend_in(self, cache: Any, index: int, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """As `FlatDecoder.attend_in`; the tokens of prompts that are read attend to those before them in their own."""
        if not isinstance(cache, _Prompts):
            return super().attend_in(cache, index, q, k, v, bias)
        parts = (torch.split(t[:, 0].transpose(0, 1), cache.lengths, 1) for t in (q, k, v))  # [H or G, T, D] of each
        attended = []
        for row, (own_q, own_k, own_v) in enumerate(zip(*parts, strict=True)):
            start = cache.width - cache.lengths[row]
            cache.into.keys[index][row, :, start : cache.width] = own_k
            cache.into.values[index][row, :, start : cache.width] = own_v
            taken = F.scaled_dot_product_attention(
                own_q[None], own_k[None], own_v[None], is_causal=True, enable_gqa=self.groups != self.heads
            )
            attended.append(taken[0].transpose(0, 1))
        return torch.cat(attended)[:, None]

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
                parts[part] = _Shared(getattr(layer, part), updates)
            bound.append(replace(layer, **parts))
        return bound
