"""A linear projection with its LoRA update merged in: one matrix product forward, and the factors' gradients back.

The layer computes y = W' x with W' = W + scale * B A, W frozen. Its backward pass needs dx = W'^T dy and the gradients
of A and B alone; neither needs y. So where y is known already, because the same weights computed it while the answer
was sampled, the forward product is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from workbench.decoding.products import linear


@dataclass(frozen=True, slots=True)
class Factors:
    """One LoRA update: B A times `scale`, added to rows `start` to `stop` of a packed weight."""

    a: nn.Parameter
    b: nn.Parameter
    scale: float
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Projection:
    """Linear layers that read the same input, packed into one weight [out, in] with their updates merged in."""

    weight: Tensor
    bias: Tensor | None
    factors: tuple[Factors, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """y [..., out] of x [..., in], without gradients in the factors."""
        return linear(x, self.weight, self.bias)

    def train(self, x: Tensor, recorded: Tensor | None = None) -> Tensor:
        """y [n, out] of x [n, in], differentiable in x and the factors; `recorded` is y where it is known."""
        parameters = [p for f in self.factors for p in (f.a, f.b)]
        result: Tensor = _Train.apply(x, self, [recorded], *parameters)  # type: ignore[no-untyped-call]
        return result


def pack(layers: Sequence[nn.Module]) -> Projection:
    """Pack layers (plain or with LoRA) that read the same input, reading their weights now."""
    weights, biases, factors = [], [], []
    start = 0
    layer: Any
    for layer in layers:
        base: Any = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer
        weight = base.weight
        stop = start + weight.shape[0]
        for name in layer.active_adapters if isinstance(layer, LoraLayer) else ():
            if name in layer.lora_A:
                a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
                scale = float(layer.scaling[name])
                weight = torch.addmm(weight, b, a, alpha=scale)
                factors.append(Factors(a, b, scale, start, stop))
        weights.append(weight)
        biases.append(base.bias)
        start = stop
    bias = None if biases[0] is None else torch.cat(biases)
    return Projection(weights[0] if len(weights) == 1 else torch.cat(weights), bias, tuple(factors))


class _Train(torch.autograd.Function):
    """y = W' x + bias; gradients for x, A and B in closed form."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: Projection, recorded: list[Tensor | None], *factors: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.projection = projection
        # In a list, so that autograd does not take what was recorded for an input.
        return projection(x) if recorded[0] is None else recorded[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,), (dy,) = ctx.saved_tensors, gradients
        projection: Projection = ctx.projection
        dx = linear(dy, projection.weight.T) if ctx.needs_input_grad[0] else None
        if not projection.factors:
            return dx, None, None
        read = linear(
            x, torch.cat([f.a for f in projection.factors])
        )  # A x for all packed layers at once, [n, sum of r]
        back, found = [], []
        at = 0
        for f in projection.factors:
            rank = f.a.shape[0]
            part = dy[:, f.start : f.stop]
            found.append(f.scale * part.T @ read[:, at : at + rank])  # dB [out, r]
            back.append(linear(part, f.b.T) * f.scale)  # [n, r]
            at += rank
        in_a = linear(torch.cat(back, 1).T, x.T)  # dA of all layers, [sum of r, in]
        by_layer = torch.split(in_a, [f.a.shape[0] for f in projection.factors])
        pairs = [g for a, b in zip(by_layer, found, strict=True) for g in (a, b)]
        return dx, None, None, *pairs
