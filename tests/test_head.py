"""The head by itself: it gives the model's own logits, or says that it cannot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM, GraniteConfig, PhiConfig
from transformers.models.granite import GraniteForCausalLM
from transformers.models.phi import PhiForCausalLM

from tests import tiny
from workbench.decoding import ModelDecoder, head_of

SMALL: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


def made(name: str) -> Any:
    torch.manual_seed(0)
    if name == "softcap":
        return Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=3.0))
    if name == "scale":
        return CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.25))
    if name == "divided":
        return GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=4.0))
    if name == "bias":
        return PhiForCausalLM(PhiConfig(**SMALL))
    return tiny.model(tie_word_embeddings=name == "tied")


@pytest.mark.parametrize("name", ["tied", "untied", "softcap", "scale", "divided", "bias"])
def test_the_head_gives_the_models_own_logits(name: str) -> None:
    model = made(name).eval().requires_grad_(False)
    student = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")).eval()
    head = head_of(student)
    assert (
        head is not None and (head.softcap > 0) == (name == "softcap") and (head.bias is not None) == (name == "bias")
    )
    ids = torch.randint(0, 90, (2, 6))
    decoder = ModelDecoder(student)
    hidden = decoder.forward_hidden(ids, None, decoder.allocate(2, 6), keep=4)
    torch.testing.assert_close(head(hidden), student(input_ids=ids).logits[:, -4:], rtol=1e-4, atol=1e-5)


def test_a_way_to_the_logits_that_is_not_known_is_noticed() -> None:
    model = made("softcap").eval().requires_grad_(False)
    own = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        found = own(*args, **kwargs)
        found.logits = found.logits * 1.01
        return found

    model.forward = forward
    assert head_of(model) is None


def test_a_head_that_is_taught_is_left_to_autograd() -> None:
    model = tiny.model().requires_grad_(False)
    assert head_of(model) is not None
    student = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM"))
    assert head_of(student) is None
