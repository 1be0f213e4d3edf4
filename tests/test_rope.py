"""Rotary embeddings that are stretched for longer texts: our own loops against transformers' logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests import tiny
from workbench.decoding import LiveDecoder, ModelDecoder, PackedDecoder, StackedDecoder, decoder_for
from workbench.decoding.live import runs_live
from workbench.models import LoadedModel
from workbench.roles import Roles, make_roles
from workbench.sampling import pad_left, sample
from workbench.settings import LoraSettings
from workbench.training.student import completion_logits, model_logits

OWN: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    "yarn, all said": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
        "attention_factor": 1.3,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}
LONGEST = 256
"""Of the tiny models, in tokens; the stretched ones were made for 64."""


def model(family: str, rope: dict[str, Any]) -> Any:
    return tiny.model(family, rope_parameters={"rope_theta": 10_000.0, **rope}, max_position_embeddings=LONGEST)


def by_steps(decoder: Any, ids: torch.Tensor, read: int) -> torch.Tensor:
    """Logits [1, T - read + 1, V]: the first `read` tokens at once, the others one by one."""
    cache = decoder.allocate(1, ids.shape[1])
    found = [decoder.forward(ids[:, :read], None, cache)]
    found += [decoder.forward(ids[:, i : i + 1], None, cache) for i in range(read, ids.shape[1])]
    return torch.cat(found, 1)


def text(tokens: int) -> torch.Tensor:
    return torch.randint(4, 300, (1, tokens), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("rope", OWN.values(), ids=list(OWN))
@torch.no_grad()
def test_our_own_loops_stretch_as_transformers_does(family: str, rope: dict[str, Any]) -> None:
    made, ids = model(family, rope), text(110)
    expected = made(input_ids=ids).logits
    plain = model(family, {"rope_type": "default"})(input_ids=ids).logits
    assert (expected - plain).abs().max() > 0.1, "the stretching shows in the logits"
    assert isinstance(decoder_for(made), PackedDecoder) and runs_live(made)
    for decoder in (PackedDecoder(made), LiveDecoder(made)):
        torch.testing.assert_close(by_steps(decoder, ids, 100), expected[:, 99:], rtol=1e-4, atol=5e-4)


def lesson(family: str, rope: dict[str, Any]) -> Roles:
    """A base and a student that has learned something, which its weights show."""
    made = model(family, rope)
    made.requires_grad_(False)
    roles = make_roles(LoadedModel(made, tiny.tokenizer(), "tiny", None), LoraSettings(rank=4))
    with torch.no_grad():
        for parameter in roles.adapter.values():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    roles.refresh()
    return roles


@pytest.mark.parametrize("family", ["qwen3", "qwen2", "llama"])
@pytest.mark.parametrize("rope", OWN.values(), ids=list(OWN))
def test_the_training_pass_stretches_as_transformers_does(family: str, rope: dict[str, Any]) -> None:
    roles, prompts = lesson(family, rope), [tuple(text(90)[0].tolist()), tuple(text(40)[0].tolist())]
    for reused in (True, False):  # with and without what sampling has computed
        answers = sample(
            roles.student_decoder,
            prompts,
            rollouts=2,
            end=frozenset(),
            pad=0,
            longest=12,
            seed=3,
            record=reused,
        )
        assert (answers.tape is not None) == reused
        found, expected = completion_logits(roles, answers), model_logits(roles.student, answers)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=5e-4)
        slopes = [
            torch.autograd.grad(logits.log_softmax(-1)[..., 7].sum(), list(roles.adapter.values()))
            for logits in (found, expected)
        ]
        for ours, theirs in zip(*slopes, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


@pytest.mark.parametrize("rope", OWN.values(), ids=list(OWN))
@torch.no_grad()
def test_what_is_read_together_stretches_as_transformers_does(rope: dict[str, Any]) -> None:
    roles, texts = lesson("qwen3", rope), (text(76)[0].tolist(), text(70)[0].tolist()[::-1])
    stack = StackedDecoder(roles.base_decoder, [roles.base_decoder, roles.student_decoder])  # type: ignore[arg-type]
    ids, mask = pad_left([tuple(t[:-10]) for t in texts], 0)
    cache = stack.allocate(2, 80)
    found = [stack.forward(ids, mask, cache)[:, 0]]
    for step in range(-10, 0):
        found.append(stack.forward(torch.tensor([[t[step]] for t in texts]), None, cache)[:, 0])
    for row, made in enumerate((roles.loaded.model, roles.student)):
        expected = made(input_ids=torch.tensor([texts[row]])).logits[0, -11:]
        torch.testing.assert_close(torch.stack([f[row] for f in found]), expected, rtol=1e-4, atol=5e-4)


CHANGES: dict[str, tuple[dict[str, Any], int]] = {
    "dynamic": ({"rope_type": "dynamic", "factor": 4.0}, LONGEST),
    "longrope": (
        {
            "rope_type": "longrope",
            "short_factor": [1.0 + i / 8 for i in range(8)],
            "long_factor": [2.0 + i for i in range(8)],
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        64,
    ),
}


@pytest.mark.parametrize(("rope", "longest"), CHANGES.values(), ids=list(CHANGES))
@torch.no_grad()
def test_what_changes_with_the_length_is_left_to_the_library_up_to_where_it_does(
    rope: dict[str, Any], longest: int
) -> None:
    made, ids = model("qwen3", rope), text(longest + 10)
    decoder = decoder_for(made)
    assert isinstance(decoder, ModelDecoder) and not runs_live(made)
    assert LoadedModel(made, tiny.tokenizer(), "tiny", None).longest == longest
    expected = made(input_ids=ids[:, :longest]).logits
    found = by_steps(decoder, ids[:, :longest], longest - 10)
    torch.testing.assert_close(found, expected[:, longest - 11 :], rtol=1e-4, atol=5e-4)
    # Beyond it one pass and a cache differ, and not by rounding.
    beyond = by_steps(decoder, ids, longest - 10)[:, -1] - made(input_ids=ids).logits[:, -1]
    assert float(beyond.abs().max()) > 0.1
