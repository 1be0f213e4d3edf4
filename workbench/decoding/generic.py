"""Any causal language model of transformers, run through its own forward with its own cache."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from workbench.decoding.packed import inner_model


class _Unasking(DynamicCache):  # type: ignore[misc]
    """A transformers cache with which the mask of a new token is always written out.

    Where nothing is padded a mask could be left out, and whether that is so the library asks the mask itself: at each
    token, and on a card to ask is to wait. Of a cache that can be compiled it does not ask.
    """

    is_compileable = True


@dataclass
class ModelCache:
    """A transformers cache with the padding mask [B, L] of what it holds."""

    content: DynamicCache
    mask: Tensor

    def rows(self, index: Tensor) -> ModelCache:
        """The cache of the chosen rows only, in this order (rows may repeat). This one is used up."""
        # What is called selecting there is missing in layers that recur; this does the same, and all layers have it.
        self.content.reorder_cache(index)
        return ModelCache(self.content, self.mask.index_select(0, index))


class ModelDecoder:
    """Runs `model` (plain or PEFT, quantised or not) as it stands; nothing is copied, so nothing to refresh.

    Attributes:
        recurrent: whether some layers keep a state in place of all keys and values (LFM2, Qwen3.5, Jamba). One token
            goes on from such a state everywhere. Several do not: Jamba's layers then begin anew without a word, and
            Qwen3.5's overwrite what the gradient needs. So a prompt is read together with what follows it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = model
        self._inner = inner_model(model)
        # The argument was called past_key_values until transformers 5.2x.
        names = inspect.signature(self._inner.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        layers = DynamicCache(config=self._inner.config).layers
        self.recurrent = any(hasattr(layer, "conv_states") for layer in layers)

    def refresh(self) -> None:
        """Nothing is copied from the model."""

    def allocate(self, rows: int, capacity: int) -> ModelCache:
        """An empty cache; it grows as it is filled, whatever `capacity` says."""
        device = next(self._inner.parameters()).device
        return ModelCache(_Unasking(config=self._inner.config), torch.zeros(rows, 0, dtype=torch.long, device=device))

    @torch.no_grad()
    def forward(self, ids: Tensor, mask: Tensor | None, cache: ModelCache, keep: int = 1) -> Tensor:
        """Logits [B, keep, V] of the last `keep` of the new tokens `ids` [B, T]; see `Decoder`."""
        return self.run(ids, mask, cache, keep)

    @torch.no_grad()
    def forward_hidden(self, ids: Tensor, mask: Tensor | None, cache: ModelCache, keep: int = 1) -> Tensor:
        """The same before the head: hidden states [B, keep, D]."""
        return self.run_hidden(ids, mask, cache, keep)

    def run(self, ids: Tensor, mask: Tensor | None, cache: ModelCache, keep: int = 1) -> Tensor:
        """`forward` with gradients, through what the cache holds too."""
        logits: Tensor = self._call(self._model, ids, mask, cache, logits_to_keep=keep).logits
        return logits

    def run_hidden(self, ids: Tensor, mask: Tensor | None, cache: ModelCache, keep: int = 1) -> Tensor:
        """`forward_hidden` with gradients, through what the cache holds too."""
        hidden: Tensor = self._call(self._inner.base_model, ids, mask, cache).last_hidden_state
        return hidden[:, -keep:]

    def _call(self, model: Any, ids: Tensor, mask: Tensor | None, cache: ModelCache, **more: int) -> Any:
        new = torch.ones_like(ids) if mask is None else mask.long()
        cache.mask = torch.cat([cache.mask, new], 1)
        positions = (cache.mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return model(
            input_ids=ids,
            attention_mask=cache.mask,
            position_ids=positions,
            use_cache=True,
            **more,
            **{self._cache_name: cache.content},
        )
