"""The flat loop of `packed.py` over a model's own linear layers: for weights that are quantised, or too large to copy.

Each frozen layer is called as it is, a 4-bit one included, and the LoRA update is added beside it: nothing is ever
merged, for merging into 4-bit weights rounds them anew each time and they drift away. The factors are held packed, one
pair for all layers that read the same input, at addresses that stay: `refresh` copies into them.

Shapes: R sum of the ranks in one projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from workbench.decoding.packed import FlatDecoder, KeyValues, flat, inner_model

_PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def runs_live(model: Any) -> bool:
    """Whether `LiveDecoder` computes the same function as this model."""
    return flat(model) and all(
        _plain(getattr(block, part))
        for layer in model.model.layers
        for block in (layer.self_attn, layer.mlp)
        for part in _PARTS
        if hasattr(block, part)
    )


def _plain(layer: Any) -> bool:
    """Whether a layer is linear, with plain LoRA at most: no DoRA, no bias of the adapter's own, nothing merged."""
    if not isinstance(layer, LoraLayer):
        return isinstance(layer, nn.Linear)
    names = [n for n in layer.active_adapters if n in layer.lora_A]
    variants: dict[str, Any] = getattr(layer, "lora_variant", {})
    return (
        isinstance(layer.get_base_layer(), nn.Linear)
        and not layer.merged
        and not any(n in variants or layer.lora_bias.get(n) for n in names)
    )


class _LiveProjection:
    """Linear layers that read the same input, called one by one, with their LoRA updates added in one go."""

    def __init__(self, layers: Sequence[Any], like: Tensor) -> None:
        self._bases = [layer.get_base_layer() if isinstance(layer, LoraLayer) else layer for layer in layers]
        self._factors: list[tuple[Tensor, Tensor, float, int]] = []
        start = 0
        for layer, base in zip(layers, self._bases, strict=True):
            for name in layer.active_adapters if isinstance(layer, LoraLayer) else ():
                if name in layer.lora_A:
                    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
                    self._factors.append((a, b, float(layer.scaling[name]), start))
            start += base.out_features
        ranks = sum(a.shape[0] for a, *_ in self._factors)
        # Rows of B outside a layer's own outputs stay zero: one product adds the updates of all.
        self._a = like.new_zeros(self._bases[0].in_features, ranks)
        self._b = like.new_zeros(ranks, start)
        self.refresh()

    def refresh(self) -> None:
        """Take over the factors as they are now."""
        at = 0
        for a, b, scale, start in self._factors:
            stop = at + a.shape[0]
            self._a[:, at:stop].copy_(a.detach().T)
            self._b[at:stop, start : start + b.shape[0]].copy_((scale * b.detach()).T)
            at = stop

    def __call__(self, x: Tensor) -> Tensor:
        """y [..., out] of x [..., in]."""
        parts = [base(x) for base in self._bases]
        y: Tensor = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        if self._factors:
            y.view(-1, y.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]) @ self._a, self._b)
        return y


class LiveDecoder(FlatDecoder):
    """Runs a Llama-style model over its own layers, quantised or not, with the adapter's update beside them.

    Args:
        model: a causal language model that `runs_live`, or the PEFT model around it.
    """

    def __init__(self, model: nn.Module) -> None:
        inner = inner_model(model)
        if not runs_live(inner):
            raise ValueError(f"{type(inner).__name__} is not a Llama-style decoder with plain LoRA")
        self._projections: list[_LiveProjection] = []
        super().__init__(model)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the adapter's factors as they are now, in place."""
        if not self._projections:
            super().refresh()
        for projection in self._projections:
            projection.refresh()

    def _project(self, layers: Sequence[Any]) -> _LiveProjection:
        made = _LiveProjection(layers, self._model.model.embed_tokens.weight)
        self._projections.append(made)
        return made

    @torch.no_grad()
    def forward(
        self,
        ids: Tensor,
        mask: Tensor | None,
        cache: KeyValues,
        keep: int = 1,
        record: list[tuple[Tensor, Tensor, Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Logits [B, keep, V] of the last `keep` of the new tokens `ids` [B, T]; see `Decoder`."""
        logits: Tensor = self._model.lm_head(self.forward_hidden(ids, mask, cache, keep, record))
        return logits
