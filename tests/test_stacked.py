"""Base, teacher and student in one batch answer as they do alone."""

from __future__ import annotations

import pytest
import torch

from workbench.decoding import StackedDecoder, stackable
from workbench.models import LoadedModel
from workbench.roles import Roles, make_roles
from workbench.sampling import Choice, sample
from workbench.settings import LoraSettings

PROMPTS = [(1, 9, 8, 7, 2), (1, 30, 31, 32, 33, 34, 35, 36, 2), (1, 9, 8, 7, 2)]


@pytest.fixture
def roles(tiny_model: LoadedModel) -> Roles:
    made = make_roles(tiny_model, LoraSettings(rank=4, alpha=8))
    change(made)
    return made


def change(roles: Roles) -> None:
    with torch.no_grad():
        for parameter in roles.adapter.values():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    roles.refresh()


@pytest.mark.parametrize("choice", [Choice(0.0), Choice(1.0), Choice(0.8, top_p=0.9, top_k=20)], ids=str)
@pytest.mark.parametrize("times", [1, 3])
def test_each_row_gets_the_tokens_that_it_gets_alone(roles: Roles, choice: Choice, times: int) -> None:
    def ask(decoder, prompts, uniform=None):  # type: ignore[no-untyped-def]
        return sample(
            decoder,
            prompts,
            end=frozenset({3, *range(60, 90)}),  # so that rows end at different lengths
            pad=0,
            longest=20,
            seed=5,
            rollouts=times,
            choice=choice,
            uniform=uniform,
        ).lists()

    decoders = [roles.base_decoder, roles.base_decoder, roles.student_decoder]
    stack = StackedDecoder(roles.base_decoder, decoders)  # type: ignore[arg-type]
    uniform = torch.rand(times, 20, generator=torch.Generator().manual_seed(5)).repeat(3, 1)
    for _ in range(2):
        alone = [answer for d, p in zip(decoders, PROMPTS, strict=True) for answer in ask(d, [p])]
        assert ask(stack, PROMPTS, uniform) == alone
        assert alone[0] != alone[2 * times]
        change(roles)  # and once more with the student as it is then


def test_logits_are_those_of_each_decoder(roles: Roles) -> None:
    decoders = [roles.base_decoder, roles.student_decoder]
    stack = StackedDecoder(roles.base_decoder, decoders)  # type: ignore[arg-type]
    ids = torch.tensor([[5, 6, 7], [5, 6, 7]])
    cache = stack.allocate(2, 8)
    first = stack.forward(ids, torch.ones_like(ids), cache, keep=2)
    then = stack.forward(ids[:, :1], None, cache)
    for row, decoder in enumerate(decoders):
        own = decoder.allocate(1, 8)
        assert torch.allclose(decoder.forward(ids[:1], torch.ones(1, 3), own, keep=2), first[row : row + 1], atol=1e-5)
        assert torch.allclose(decoder.forward(ids[:1, :1], None, own), then[row : row + 1], atol=1e-5)
    assert float((then[0] - then[1]).abs().max()) > 0.01


def test_what_cannot_be_stacked(roles: Roles, tiny_folder) -> None:  # type: ignore[no-untyped-def]
    from workbench.decoding import ModelDecoder
    from workbench.models import load

    other = make_roles(load(str(tiny_folder)), LoraSettings())
    assert stackable(roles.base_decoder, [roles.student_decoder])
    assert not stackable(roles.base_decoder, [other.student_decoder])
    assert not stackable(roles.base_decoder, [ModelDecoder(roles.student)])
    assert not stackable(roles.student_decoder, [roles.base_decoder])
    with pytest.raises(ValueError, match="evenly"):
        StackedDecoder(roles.base_decoder, [roles.base_decoder, roles.student_decoder]).allocate(3, 4)  # type: ignore[arg-type,list-item]
    cache = StackedDecoder(roles.base_decoder, [roles.base_decoder, roles.student_decoder]).allocate(2, 4)  # type: ignore[arg-type,list-item]
    with pytest.raises(ValueError, match="together"):
        cache.rows(torch.tensor([1, 0]))
