"""Our norm gives PyTorch's numbers and gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.decoding.norms import rms_norm

EPSILON = 1e-2  # large enough to be seen if it is left out


def sample(dtype: torch.dtype, shape: tuple[int, ...], heads: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).mul_(0.3)
    weight = torch.rand(shape[-2:] if heads else shape[-1:], generator=generator, dtype=torch.float64) + 0.5
    return x.to(dtype), weight.to(dtype)


def theirs(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], None, EPSILON) * weight


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shape", "heads"), [((5, 48), False), ((2, 7, 3, 16), True), ((2, 7, 3, 16), False)])
def test_the_same_numbers(dtype: torch.dtype, shape: tuple[int, ...], heads: bool) -> None:
    x, weight = sample(dtype, shape, heads)
    kept = x.clone()
    with torch.no_grad():
        found = rms_norm(x, weight, EPSILON)
    assert found.dtype == dtype
    exact = {"rtol": 1e-12, "atol": 1e-14} if dtype == torch.float64 else {}
    torch.testing.assert_close(found, theirs(x, weight), **exact)
    assert torch.equal(x, kept)


@pytest.mark.parametrize(("shape", "heads"), [((5, 48), False), ((2, 7, 3, 16), True)])
def test_the_same_gradient(shape: tuple[int, ...], heads: bool) -> None:
    x, weight = sample(torch.float64, shape, heads)
    ours, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    slope = torch.linspace(-1, 2, x.numel(), dtype=torch.float64).view(shape)
    (found,) = torch.autograd.grad(rms_norm(ours, weight, EPSILON), ours, slope)
    (expected,) = torch.autograd.grad(theirs(other, weight), other, slope)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    # Whoever asks for the gradient twice of the same norm, or uses what it gave, is not handed something spoilt.
    y = rms_norm(ours, weight, EPSILON)
    first = torch.autograd.grad(y, ours, slope, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(y, ours, slope)[0], first)
