"""The pretended card refuses what CUDA refuses, allows what it allows, and counts what waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.pretend_card import Card, CardTensor, MixedDevices, pretended

here = torch.arange(6.0).view(2, 3)
index = torch.tensor([1, 0])
mask = here > 2


@pytest.fixture(autouse=True)
def card(_same_random_numbers: None) -> Iterator[Card]:
    with pretended() as made:
        yield made


@pytest.fixture
def x() -> Tensor:
    return here.to("cuda")


REFUSED: dict[str, Callable[[Tensor], object]] = {
    "add": lambda x: x + here,
    "add in place": lambda x: x.add_(here),
    "add to the computer's": lambda x: here.clone().add_(x),
    "add to a single number in place": lambda x: torch.tensor(1.0).add_(x.sum()),
    "product": lambda x: x @ here.T,
    "cat": lambda x: torch.cat([x, here]),
    "where": lambda x: torch.where(mask, x, x),
    "gather": lambda x: x.gather(1, index[:, None]),
    "index_select": lambda x: x.index_select(0, index),
    "embedding": lambda x: F.embedding(index, x),
    "masked_fill": lambda x: x.masked_fill(mask, 0.0),
    "an index of the card's into the computer's": lambda x: here[index.to("cuda")],
    "values of the computer's": lambda x: x.index_put_((index.to("cuda"),), here),
    "random numbers": lambda x: torch.rand(2, device=x.device, generator=torch.Generator()),
    "AdamW": lambda x: torch._fused_adamw_(
        [x], [x], [here.clone()], [here.clone()], [], [torch.ones(()).to("cuda")], lr=1e-3, beta1=0.9, beta2=0.999,
        weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
    ),
    "data": lambda x: setattr(x, "data", here),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_devices_is_refused(name: str, x: Tensor) -> None:
    with pytest.raises((MixedDevices, RuntimeError), match="device|data of another place"):
        REFUSED[name](x)
    with pytest.raises(TypeError, match=r"Tensor\.cpu"):
        x.numpy()


ALLOWED: dict[str, tuple[Callable[[Tensor], Tensor], Tensor, int]] = {
    "a single number": (lambda x: x + torch.tensor(2.0), here + 2, 0),
    "of the card's own": (lambda x: x + torch.ones(3, device=x.device), here + 1, 0),
    "new ones": (lambda x: x.new_ones(2, 3) + torch.zeros_like(x), here * 0 + 1, 0),
    "where": (lambda x: x.where(x > 2, torch.zeros(())), here * mask, 0),
    "copy": (lambda x: torch.zeros(2, 3, device="cuda:0").copy_(here), here, 1),
    "an index of the computer's": (lambda x: x[index], here[index], 1),
    "an index of the card's": (lambda x: x[torch.arange(2, device=x.device)], here, 0),
    "a mask": (lambda x: x[x > 2], here[mask], 1),
    "positions": (lambda x: (x > 2).nonzero(), mask.nonzero(), 1),
    "repeated": (lambda x: x.repeat_interleave(2, 0), here.repeat_interleave(2, 0), 0),
    "repeated by a tensor": (
        lambda x: x.repeat_interleave(torch.ones(2, dtype=torch.long, device="cuda"), 0), here, 1),
    "asked": (lambda x: x * float(x[0, 1]), here, 1),
    "part of it": (lambda x: x.clone().index_fill_(0, index.to("cuda"), 1.0), here * 0 + 1, 1),
    "moved": (lambda x: torch.tensor([2.0, 2.0, 2.0], device=x.device) * x, here * 2, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_what_stays_on_the_card_gives_the_numbers_of_a_cpu(name: str, x: Tensor, card: Card) -> None:
    do, expected, waits = ALLOWED[name]
    card.waits.clear()
    found = do(x)
    assert card.waited == waits, card.waits
    assert isinstance(found, CardTensor) and found.device == torch.device("cuda:0") and found.is_cuda
    back = found.cpu()
    assert type(back) is Tensor and back.device.type == "cpu" and torch.equal(back, expected)


def test_gradients_and_views_are_those_of_a_cpu(x: Tensor) -> None:
    layer = torch.nn.Linear(3, 4)
    expected = torch.autograd.grad(layer(here).pow(2).sum(), layer.weight)[0]
    assert layer.to("cuda").weight.device.type == "cuda"
    layer(x).pow(2).sum().backward()
    assert isinstance(layer.weight.grad, CardTensor) and torch.equal(layer.weight.grad.cpu(), expected)
    x[0] = 7.0
    x.view(-1)[5:].fill_(9.0)
    assert x.tolist() == [[7.0, 7.0, 7.0], [3.0, 4.0, 9.0]]
