"""Root mean square norm: x / sqrt(mean(x^2) + epsilon) * weight, over the last axis (Zhang and Sennrich 2019).

PyTorch's own is one kernel on a card. On a processor it is made of eight, and its gradient of twice as many, so that a
training pass spent as long in norms as in attention. Here the weight is frozen, and forward and backward are what the
formula takes.

Shapes: x [..., D]; weight [D], or [H, D] with one row for each head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_HERE = (torch.float32, torch.float64)
"""Precisions in which sums of squares need no other."""


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """The norm [..., D] of x, differentiable in x alone where a gradient is wanted."""
    if x.device.type != "cpu" or x.dtype not in _HERE:
        if weight.dim() == 1:
            return F.rms_norm(x, x.shape[-1:], weight, epsilon)
        return F.rms_norm(x, x.shape[-1:], None, epsilon) * weight
    if torch.is_grad_enabled() and x.requires_grad:
        y: Tensor = _Norm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
        return y
    return (x * _scale(x, epsilon)).mul_(weight)


def _scale(x: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(mean(x^2) + epsilon), [..., 1]."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().mul_(1 / x.shape[-1]).add_(epsilon).rsqrt_()


class _Norm(torch.autograd.Function):
    """With r the scale and g = weight * dy: dx = r g - x r^3 (g . x) / D."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        scale = _scale(x, epsilon)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        g = gradients[0] * weight
        along = torch.linalg.vecdot(g, x).unsqueeze(-1) * scale.pow(3).mul_(-1 / x.shape[-1])
        return g.mul_(scale).addcmul_(x, along), None, None
