"""Products by the fastest kernel give PyTorch's own numbers, and never lose a gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from workbench.decoding import products

wide = pytest.mark.skipif(not products.can_be_wide(), reason="this processor has no 512-bit vectors")


@pytest.fixture(autouse=True)
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that is not of MKL's maker, wherever this one can."""
    monkeypatch.setattr(products, "_WIDE", products.can_be_wide())


@pytest.mark.parametrize(("maker", "its_own"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_mkl_is_kept_to_on_its_makers_processors(
    maker: str, its_own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nvendor_id\t: {maker}\n")
    monkeypatch.setattr(products, "Path", lambda name: info)
    assert products.by_intel() is its_own
    info.unlink()  # as on Windows
    monkeypatch.setattr(products.platform, "processor", lambda: f"Model 1 Stepping 2, {maker}")
    assert products.by_intel() is its_own


@pytest.mark.parametrize("shape", [(1, 8), (16, 48), (3, 7, 48), (200, 33), (0, 5)])
@pytest.mark.parametrize("biased", [False, True])
def test_the_same_numbers(shape: tuple[int, ...], biased: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(24, shape[-1])
    bias = torch.randn(24) if biased else None
    exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert torch.allclose(products.linear(x, weight, bias).double(), exact, rtol=1e-5, atol=1e-5)


def test_transposed_operands_are_read_as_they_lie() -> None:
    torch.manual_seed(1)
    x, weight = torch.randn(40, 64).T, torch.randn(40, 20).T
    assert torch.allclose(products.linear(x, weight), x @ weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_stay_with_pytorch(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    x, weight = torch.randn(32, 16).to(dtype), torch.randn(8, 16).to(dtype)
    assert torch.equal(products.linear(x, weight), F.linear(x, weight))


@pytest.mark.parametrize("which", [0, 1])
def test_a_wanted_gradient_is_there(which: int) -> None:
    torch.manual_seed(3)
    operands = [torch.randn(32, 16), torch.randn(8, 16)]
    operands[which].requires_grad_()
    products.linear(operands[0], operands[1]).sum().backward()
    assert torch.allclose(operands[which].grad, operands[1 - which].sum(0).expand_as(operands[which]), atol=1e-5)


@wide
def test_few_rows_stay_with_pytorch_and_many_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    own = F.linear
    monkeypatch.setattr(F, "linear", lambda x, w, b=None: seen.append(len(x)) or own(x, w, b))
    weight = torch.randn(8, 16)
    for rows in (1, products.FEWEST_ROWS - 1, products.FEWEST_ROWS, 100):
        products.linear(torch.randn(rows, 16), weight)
    assert seen == [1, products.FEWEST_ROWS - 1]


@wide
def test_pieces_of_a_transpose_stay_with_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.randn(64, 48)
    seen: list[tuple[int, ...]] = []
    own = F.linear
    monkeypatch.setattr(F, "linear", lambda x, w, b=None: seen.append(tuple(x.shape)) or own(x, w, b))
    for x, weight in (
        (whole[:, :20].T, torch.randn(8, 64)),
        (whole, torch.randn(48, 60)[:, :30].T),
        (whole[:, :20], torch.randn(8, 20)),
    ):
        assert torch.allclose(products.linear(x, weight), x @ weight.T, rtol=1e-4, atol=1e-4)
    assert seen == [(20, 64), (64, 48)]
