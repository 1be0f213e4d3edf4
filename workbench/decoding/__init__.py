"""Running a model forward without gradients, token by token, with a cache of keys and values.

`decoder_for` chooses how: over packed weights where the architecture and the memory allow it (`packed.py`), over the
model's own layers where only the architecture does (`live.py`), through the model's own forward otherwise
(`generic.py`). All compute the same function.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from workbench.decoding.generic import ModelDecoder
from workbench.decoding.head import Head, Predictions, head_of
from workbench.decoding.live import LiveDecoder, runs_live
from workbench.decoding.packed import FlatDecoder, PackedDecoder, inner_model, supports
from workbench.decoding.stacked import StackedDecoder, stackable
from workbench.decoding.training_pass import Tape, training_hidden

# Packing keeps a second copy of the weights. Up to this many bytes that is cheap next to what it saves.
PACK_AT_MOST = 1_000_000_000

__all__ = [
    "Cache",
    "Decoder",
    "FlatDecoder",
    "Head",
    "LiveDecoder",
    "ModelDecoder",
    "PackedDecoder",
    "Predictions",
    "StackedDecoder",
    "Tape",
    "decoder_for",
    "head_of",
    "stackable",
    "training_hidden",
]


class Cache(Protocol):
    """Keys and values of the tokens read so far, for each row of a batch."""

    def rows(self, index: Tensor) -> Cache:
        """The cache of the chosen rows only, in this order (rows may repeat). This one is used up."""


class Decoder(Protocol):
    """One set of weights that can be run forward. A cache belongs to the decoder that allocated it."""

    def allocate(self, rows: int, capacity: int) -> Any:
        """An empty cache for `rows` rows of up to `capacity` tokens."""

    def forward(self, ids: Tensor, mask: Tensor | None, cache: Any, keep: int = 1) -> Tensor:
        """Logits [B, keep, V] of the last `keep` of the new tokens `ids` [B, T], which join the cache."""

    def forward_hidden(self, ids: Tensor, mask: Tensor | None, cache: Any, keep: int = 1) -> Tensor:
        """The same before the head: hidden states [B, keep, D], after the last norm."""

    def refresh(self) -> None:
        """Take notice that the adapter has changed."""


def decoder_for(model: nn.Module) -> PackedDecoder | LiveDecoder | ModelDecoder:
    """The fastest decoder that computes what `model` (plain or PEFT) computes."""
    inner = inner_model(model)
    size = sum(p.numel() * p.element_size() for p in inner.parameters())
    if supports(inner) and size <= PACK_AT_MOST:
        return PackedDecoder(model)
    if runs_live(inner):
        return LiveDecoder(model)
    return ModelDecoder(model)
