"""From the last hidden states to logits, and back: the head of a causal language model, by itself.

A vocabulary is large: at 151,936 tokens one vector of logits is 0.6 MB, and a whole batch of them is what runs out of
memory first. Whoever holds the hidden states and the head can make logits a few tokens at a time.

Shapes: N tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.decoding.packed import inner_model
from workbench.decoding.products import linear


@dataclass(frozen=True, slots=True)
class Head:
    """A frozen output layer: logits = cap * tanh(scale * (weight h + bias) / cap).

    Attributes:
        weight: [V, D].
        softcap: Gemma's bound on the logits; 0 where there is none.
        scale: factor before the bound (Cohere's, Granite's).
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float = 0.0
    scale: float = 1.0

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D], in their precision."""
        logits = linear(hidden, self.weight, self.bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        return torch.tanh(logits / self.softcap) * self.softcap if self.softcap else logits

    def same(self, other: Head) -> bool:
        """Whether both give the same logits, number by number."""
        if (self.softcap, self.scale) != (other.softcap, other.scale) or not torch.equal(self.weight, other.weight):
            return False
        if self.bias is None or other.bias is None:
            return self.bias is other.bias
        return torch.equal(self.bias, other.bias)

    def back(self, slope: Tensor, logits: Tensor | None) -> Tensor:
        """Gradient [N, D] in the hidden states, given that in the logits [N, V]; `slope` is used up.

        Args:
            logits: what the head gave; needed under a softcap only.
        """
        if self.softcap:
            assert logits is not None
            slope.mul_(1 - (logits / self.softcap) ** 2)
        if self.scale != 1.0:
            slope.mul_(self.scale)
        return linear(slope.to(self.weight.dtype), self.weight.T)


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says at each token: hidden states [..., D] with their head, or logits [..., V] without one."""

    values: Tensor
    head: Head | None

    def logits(self) -> Tensor:
        """The logits [..., V] themselves."""
        return self.values if self.head is None else self.head(self.values)


def head_of(model: Any) -> Head | None:
    """The head of a model (plain or PEFT), or None where what lies between hidden states and logits is not known.

    It is tried out on two tokens: only a head that gives the model's own logits is returned, so that an
    architecture with another way to its logits is run through its own forward instead of wrongly.
    """
    inner = inner_model(model)
    layer = inner.get_output_embeddings()
    # A quantised or a taught head is not a plain frozen matrix.
    if type(layer) is not nn.Linear or layer.weight.requires_grad or not layer.weight.is_floating_point():
        return None
    config = inner.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    head = Head(layer.weight, layer.bias, float(getattr(config, "final_logit_softcapping", None) or 0.0), scale)
    return head if _agrees(inner, head) else None


@torch.no_grad()
def _agrees(inner: Any, head: Head) -> bool:
    ids = torch.tensor([[0, 1]], device=head.weight.device)
    try:
        own = inner(input_ids=ids, use_cache=False).logits
        ours = head(inner.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    except (AttributeError, TypeError):
        return False
    if own.shape != ours.shape:
        return False
    # Rounding only: the same numbers went through the same products.
    allowed = 1e-5 if own.dtype in (torch.float32, torch.float64) else 2e-2
    return bool((own - ours).abs().max() <= allowed * own.abs().max())
