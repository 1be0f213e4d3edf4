"""What a frozen teacher reads once is kept within a budget, wherever it lies in a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from workbench.decoding import Decoder, FlatDecoder, LiveDecoder, ModelDecoder, PackedDecoder
from workbench.models import LoadedModel, load
from workbench.sampling import Completions, sample
from workbench.training import scorer
from workbench.training.parts import part_of
from workbench.training.scorer import Scorer

PROMPTS = [(5, 6, 7, 8), (9, 10), (11, 12, 13), (14, 15, 16, 17, 18, 19)]


@pytest.fixture(params=["qwen3", "qwen2"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedModel:
    return load(str(tiny.save(tmp_path / request.param, request.param)))


@pytest.fixture(params=[PackedDecoder, LiveDecoder])
def decoder(request: pytest.FixtureRequest, loaded: LoadedModel) -> FlatDecoder:
    made: FlatDecoder = request.param(loaded.model)
    return made


def answers(decoder: FlatDecoder, prompts: list[tuple[int, ...]]) -> Completions:
    return sample(decoder, prompts, end=frozenset(), pad=0, longest=5, seed=1)


def budget(decoder: FlatDecoder, *prompts: tuple[int, ...]) -> int:
    """What the keys and values of these prompts take; the last token of each is read with the answer."""
    return decoder.bytes_per_token * sum(len(prompt) - 1 for prompt in prompts)


def watched(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, name: str = "forward_hidden"
) -> Callable[[], list[tuple[int, ...]]]:
    """Says the shapes [rows, tokens] of what was run since it was last asked."""
    shapes: list[tuple[int, ...]] = []
    run = getattr(decoder, name)

    def noting(*args: Any, **kwargs: Any) -> torch.Tensor:
        ids = next(value for value in args if isinstance(value, torch.Tensor))
        shapes.append(tuple(ids.shape))
        result: torch.Tensor = run(*args, **kwargs)
        return result

    monkeypatch.setattr(decoder, name, noting)

    def since() -> list[tuple[int, ...]]:
        found = shapes.copy()
        shapes.clear()
        return found

    return since


def test_a_frozen_teachers_prompts_are_read_once(
    loaded: LoadedModel, decoder: FlatDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    completions = answers(decoder, PROMPTS)
    kept, ran = Scorer(decoder, pad=0, frozen_prompts=PROMPTS), watched(decoder, monkeypatch)
    first = kept.logits(PROMPTS, completions)
    assert ran() == [(4, 5), (4, 5)]  # the prompts without their last tokens, then what is scored
    again = kept.logits(PROMPTS, completions)
    assert ran() == [(4, 5)]
    anew = Scorer(ModelDecoder(loaded.model), pad=0).logits(PROMPTS, completions)
    assert torch.equal(first, again)
    torch.testing.assert_close(first, anew, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1), (1, 2, 0, 3), (2, 2, 1, 0), (3, 2), (0, 1)])
def test_prompts_beyond_the_budget_are_read_beside_those_that_are_kept(
    loaded: LoadedModel, decoder: FlatDecoder, order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [PROMPTS[i] for i in order]
    completions = answers(decoder, asked)
    some = Scorer(decoder, pad=0, frozen_prompts=PROMPTS, budget=budget(decoder, *PROMPTS[:2]) + 1)
    assert some.left == 1
    some.logits(PROMPTS[:2], answers(decoder, PROMPTS[:2]))
    ran = watched(decoder, monkeypatch)
    found = some.logits(asked, completions)
    shapes = ran()
    beyond = {i for i in order if i >= 2}
    assert sum(rows for rows, _ in shapes[:-1]) == len(beyond)
    assert shapes[-1] == (len(order), 5)
    anew = Scorer(ModelDecoder(loaded.model), pad=0).logits(asked, completions)
    torch.testing.assert_close(found, anew, rtol=1e-4, atol=2e-4)


def one_by_one(loaded: LoadedModel, prompts: list[tuple[int, ...]], completions: Completions) -> torch.Tensor:
    """The logits where every answer reads its own prompt, alone."""
    whole = Scorer(ModelDecoder(loaded.model), pad=0)
    return torch.cat([whole.logits([p], part_of(completions, slice(i, i + 1))) for i, p in enumerate(prompts)])


@pytest.mark.parametrize("kept", [0, 2], ids=["none kept", "two kept"])
def test_a_prompt_is_read_once_for_all_its_answers(
    loaded: LoadedModel, decoder: FlatDecoder, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [PROMPTS[i] for i in (3, 3, 0, 3, 2, 0, 2, 2)]
    completions = answers(decoder, asked)
    some = Scorer(decoder, pad=0, frozen_prompts=PROMPTS[:kept])
    some.logits(PROMPTS, answers(decoder, PROMPTS))
    ran = watched(decoder, monkeypatch)
    found = some.logits(asked, completions)
    assert ran() == [(2 if kept else 3, 5), (8, 5)]
    torch.testing.assert_close(found, one_by_one(loaded, asked, completions), rtol=1e-4, atol=2e-4)


def test_so_does_a_models_own_forward(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [PROMPTS[i] for i in (3, 0, 0, 3, 1)]
    completions = answers(PackedDecoder(loaded.model), asked)
    decoder = ModelDecoder(loaded.model)
    ran = watched(decoder, monkeypatch, "_call")
    found = Scorer(decoder, pad=0).logits(asked, completions)
    assert ran() == [(3, 5), (5, 5)]
    torch.testing.assert_close(found, one_by_one(loaded, asked, completions), rtol=1e-4, atol=2e-4)


def test_prompts_are_read_ahead_a_few_at_a_time_where_they_are_large(
    decoder: FlatDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "_GROUP_BYTES", budget(decoder, *PROMPTS[:2]))
    completions = answers(decoder, PROMPTS)
    kept, ran = Scorer(decoder, pad=0, frozen_prompts=PROMPTS), watched(decoder, monkeypatch)
    kept.logits(PROMPTS, completions)
    assert ran() == [(2, 3), (1, 2), (1, 5), (4, 5)]


def test_a_group_is_read_whole_whichever_of_its_prompts_is_asked_for_first(decoder: FlatDecoder) -> None:
    completions = answers(decoder, PROMPTS[2:])
    one, other = (Scorer(decoder, pad=0, frozen_prompts=PROMPTS) for _ in range(2))
    other.logits(PROMPTS[:2], answers(decoder, PROMPTS[:2]))
    assert torch.equal(one.logits(PROMPTS[2:], completions), other.logits(PROMPTS[2:], completions))
