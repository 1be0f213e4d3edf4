"""Muon (Jordan et al. 2024): momentum whose matrix updates are made orthogonal, to train faster from nothing.

PyTorch has one too, but it works in bfloat16, which is a hundred times slower than float32 on processors
without AVX-512; this one works in float32.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of [m, n] towards 1 by Newton-Schulz iterations of fifth order."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    result: Tensor = x if wide else x.T
    return result


class Muon:
    """Muon over matrices [m, n], with Nesterov momentum."""

    def __init__(self, parameters: Iterable[nn.Parameter], momentum: float = 0.95, decay: float = 0.0) -> None:
        self.parameters = list(parameters)
        self.momentum = momentum
        self.decay = decay
        self.buffers = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update every matrix from its gradient."""
        for parameter, buffer in zip(self.parameters, self.buffers, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp(buffer, self.momentum))
            scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
            parameter.mul_(1 - rate * self.decay).add_(update, alpha=-rate * scale)
