"""Models with layers that recur: what they sample, score and learn is what they say of each text read whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from workbench.decoding import ModelDecoder, decoder_for, head_of
from workbench.sampling import Choice, Completions, pad_left, pad_right, sample
from workbench.training.scorer import Scorer
from workbench.training.student import checkpointed, hidden_without_cache, model_hidden, model_logits

SIZE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_LINEAR: dict[str, Any] = {
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
_MAMBA: dict[str, Any] = {"mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
KINDS: dict[str, dict[str, Any]] = {
    "lfm2": {"block_ff_dim": 48, "layer_types": ["conv", "full_attention"], "conv_L_cache": 3},
    "qwen3_5_text": _LINEAR,
    "qwen3_next": {**_LINEAR, **_EXPERTS},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "use_mamba_kernels": False,
        "mamba_d_state": 8,
    },
    # Each of its layers recurs and attends.
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, **_MAMBA},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 0,
        "shared_intermediate_size": 32,
        "mamba_n_heads": 8,
        "mamba_expand": 2,
        **_MAMBA,
    },
}
PROMPTS = [(5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), (20, 21, 22), (30, 31, 32, 33, 34, 35, 36)]
ANSWERS = [[3, 4, 5, 6, 7], [8, 9], [10, 11, 12], [13, 14, 15, 16], [17, 18], [19, 3, 4]]
"""Two to each prompt."""


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    config = CONFIG_MAPPING[request.param](**{**SIZE, **KINDS[request.param]})
    made = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
            else:  # norms and gates, which begin at 1 or 0: that would hide one left out
                parameter.add_(0.1 * torch.randn_like(parameter))
    made.get_output_embeddings().weight.requires_grad_(False)  # as it is wherever an adapter is taught
    return made


def alone(model: Any, prompt: tuple[int, ...], answer: list[int]) -> Tensor:
    """Logits [T, V] at each token of an answer, of the two read in one go by themselves."""
    logits: Tensor = model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0]
    return logits[len(prompt) - 1 : -1]


@torch.no_grad()
def greedy(model: Any, prompt: tuple[int, ...], longest: int) -> list[int]:
    said: list[int] = []
    for _ in range(longest):
        said.append(int(alone(model, prompt, [*said, 0])[-1].argmax()))
    return said


def asked() -> tuple[list[tuple[int, ...]], Completions]:
    prompts = [prompt for prompt in PROMPTS for _ in range(2)]
    return prompts, Completions(*pad_left(prompts, 0), *pad_right(ANSWERS, 0), rollouts=2)


@pytest.mark.parametrize("rollouts", [1, 2])
def test_greedy_answers_are_those_without_a_cache_though_rows_end(model: Any, rollouts: int) -> None:
    whole = [greedy(model, prompt, 10) for prompt in PROMPTS]
    end = frozenset({whole[0][3], whole[1][6]})
    expected = []
    for said in whole:
        stop = next((i + 1 for i, token in enumerate(said) if token in end), len(said))
        expected += [said[:stop]] * rollouts
    assert len({len(said) for said in expected}) > 1, "all rows end together, which shows nothing"
    decoder = decoder_for(model)
    assert isinstance(decoder, ModelDecoder) and decoder.recurrent
    found = sample(decoder, PROMPTS, end=end, pad=0, longest=10, rollouts=rollouts, choice=Choice(temperature=0))
    assert found.lists() == expected


def test_answers_are_scored_as_they_are_alone(model: Any) -> None:
    prompts, completions = asked()
    with torch.no_grad():
        scored = Scorer(decoder_for(model), pad=0).logits(prompts, completions)
        for logits, prompt, answer in zip(scored, prompts, ANSWERS, strict=True):
            expected = alone(model, prompt, answer)
            torch.testing.assert_close(logits[: len(answer)], expected, rtol=1e-3, atol=1e-3)


def test_a_training_pass_has_the_gradients_of_each_answer_alone(model: Any) -> None:
    prompts, completions = asked()
    parameters = [p for p in model.parameters() if p.requires_grad]

    def gradients(chosen: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(chosen.sum(), parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    rows = zip(prompts, ANSWERS, strict=True)
    expected = gradients(sum(alone(model, *row).log_softmax(-1)[:, 7].sum() for row in rows))  # type: ignore[arg-type]
    scale = max(float(g.abs().max()) for g in expected)

    ways = [lambda: model_logits(model, completions)]
    head = head_of(model)
    if head is not None:

        def without_activations() -> Tensor:
            with checkpointed(model):
                return head(hidden_without_cache(model, completions))

        ways += [lambda: head(model_hidden(model, completions)), without_activations]
    for way in ways:
        for mine, reference in zip(gradients(way().log_softmax(-1)[..., 7] * completions.mask), expected, strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-4 * scale)
