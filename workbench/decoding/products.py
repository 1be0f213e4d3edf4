"""Matrix products without gradients, by the fastest kernel at hand.

PyTorch gives products of float32 on a processor to MKL, which keeps to half of the vector width on processors that are
not its maker's. oneDNN, which PyTorch carries as well, uses all of it: on such a processor products of a batch then
take less than half the time (docs/performance.md); on its maker's, MKL is the faster one. A product of few rows is over
before oneDNN has begun.
"""

from __future__ import annotations

import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

FEWEST_ROWS = 16
"""Products of fewer rows stay with PyTorch's own choice."""


def can_be_wide() -> bool:
    """Whether this processor has 512-bit vectors and this PyTorch a oneDNN to use them."""
    return (
        torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def by_intel() -> bool:
    """Whether the processor is of MKL's maker."""
    info = Path("/proc/cpuinfo")
    return "GenuineIntel" in (info.read_text() if info.exists() else platform.processor())


_WIDE = can_be_wide() and not by_intel()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + bias: [..., out] of x [..., in] and W [out, in], which need not be contiguous.

    Where a gradient is wanted this is `torch.nn.functional.linear`.
    """
    if (
        _WIDE
        and x.dtype == torch.float32 == weight.dtype
        and x.device.type == "cpu"
        and x.numel() >= FEWEST_ROWS * x.shape[-1]
        and _lies_well(x)
        and _lies_well(weight)
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
    ):
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y
    return F.linear(x, weight, bias)


def _lies_well(x: Tensor) -> bool:
    """Whether rows lie as they are read, or the whole is a transpose: others take oneDNN hundreds of times as long."""
    return x.is_contiguous() or (x.dim() == 2 and (x.stride(1) == 1 or x.T.is_contiguous()))
