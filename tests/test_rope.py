"""Rotary embeddings that are stretched for longer texts: our own loops against transformers' logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests import tiny
from workbench.decoding import LiveDecoder, ModelDecoder, PackedDecoder, decoder_for
from workbench.decoding.live import runs_live

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


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 4.0},
        {
            "rope_type": "longrope",
            "short_factor": [1.0 + i / 8 for i in range(8)],
            "long_factor": [2.0 + i for i in range(8)],
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ],
    ids=lambda rope: rope["rope_type"],
)
@torch.no_grad()
def test_what_changes_with_the_length_is_left_to_the_library(rope: dict[str, Any]) -> None:
    made, ids = model("qwen3", rope), text(60)
    decoder = decoder_for(made)
    assert isinstance(decoder, ModelDecoder) and not runs_live(made)
    torch.testing.assert_close(by_steps(decoder, ids, 50), made(input_ids=ids).logits[:, 49:], rtol=1e-4, atol=5e-4)
