"""The memory estimate against what models really hold and what autograd really keeps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests import tiny
from workbench import memory
from workbench.allocations import peak_of
from workbench.decoding import LiveDecoder
from workbench.errors import InputError
from workbench.execution import Execution
from workbench.memory import (
    Machine,
    copied_per_token,
    estimate,
    gigabytes,
    kept_per_token,
    question_bytes,
    read_shape,
)
from workbench.models import parameters
from workbench.pocket import WEIGHTS
from workbench.sampling import Choice, Completions, sample
from workbench.settings import OptimSettings, RolloutSettings, Settings
from workbench.training.student import model_logits

QWEN3_4B = {
    "model_type": "qwen3",
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 9728,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_counted_as_they_are(family: str, tied: bool) -> None:
    model = tiny.model(family, tie_word_embeddings=tied)
    counted = read_shape(model.config.to_dict()).parameters
    assert counted == pytest.approx(parameters(model), rel=0.01)


def test_the_adapter_is_counted_as_peft_makes_it() -> None:
    model = tiny.model()
    shape = read_shape(model.config.to_dict())
    student = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape.adapter(4) == sum(p.numel() for p in student.parameters() if p.requires_grad)


def test_a_known_model_comes_out_as_published() -> None:
    shape = read_shape(QWEN3_4B)
    assert shape.parameters == pytest.approx(4.02e9, rel=0.005)
    assert shape.adapter(16) == pytest.approx(33.0e6, rel=0.005)
    weights = estimate(shape, "4-bit", Settings()).parts[0].size
    assert weights == pytest.approx(1.87e9 + 0.78e9, rel=0.02)


def kept_by(run: Callable[[], Any], student: Any) -> int:
    """Bytes that autograd keeps for the backward pass, the weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in student.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _ = run()
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(("dtype", "wide"), [(torch.float32, 4.0), (torch.bfloat16, 2.0)])
@pytest.mark.parametrize("changes", [{}, {"hidden_size": 128}, {"intermediate_size": 256}, {"num_key_value_heads": 4}])
def test_activations_are_what_autograd_keeps(dtype: torch.dtype, wide: float, changes: dict[str, Any]) -> None:
    rows, prompt, answer = 4, 20, 12
    model = tiny.model(**changes).to(dtype).requires_grad_(False)
    shape = read_shape(model.config.to_dict())
    student = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")).eval()

    def ones(length: int) -> torch.Tensor:
        return torch.ones(rows, length, dtype=torch.long)

    alone = Completions(ones(prompt), ones(prompt), ones(answer), ones(answer))
    found = kept_by(lambda: model_logits(student, alone), student)
    of_a_token = kept_per_token(shape, wide, 16)
    assert of_a_token * rows * (prompt + answer - 1) * shape.layers == pytest.approx(found, rel=0.08)
    # One prompt for all: its tokens are kept once, and their keys and values once more for each answer.
    shared = kept_by(lambda: model_logits(student, replace(alone, rollouts=rows)), student)
    copies = rows * prompt * copied_per_token(shape, wide)
    assert (of_a_token * (prompt + rows * answer) + copies) * shape.layers == pytest.approx(shared, rel=0.08)
    assert shared < 0.8 * found


def test_every_part_is_in_the_sum() -> None:
    shape = read_shape(QWEN3_4B)
    found = estimate(shape, "bf16", Settings())
    sizes = {part.name: part.size for part in found.parts}
    cache = sizes.pop("Cache of keys and values")
    assert found.teaching == pytest.approx(sum(sizes.values()))  # the cache is gone before the activations come
    assert cache < sizes["Activations"] + sizes["Loss"]
    assert found.asking < found.teaching
    assert estimate(shape, "fp32", Settings()).parts[0].size == 2 * found.parts[0].size


@pytest.mark.parametrize(
    ("family", "micro", "checkpointing", "tokens"),
    [
        ("qwen3", 8, False, 256 + 8 * 256),
        ("qwen3", 8, True, 256 + 8 * 256),
        ("qwen3", 2, False, 256 + 2 * 256),
        ("qwen3", 3, False, 3 * 512),  # answers of two prompts in one pass
        ("gemma3", 8, False, 256 + 8 * 256),
        ("gemma3", 8, True, 8 * 512),  # its layers slide, so answers do not lie in one row
    ],
)
def test_a_prompt_that_answers_share_is_counted_once(family: str, micro: int, checkpointing: bool, tokens: int) -> None:
    shape = read_shape({**QWEN3_4B, "model_type": family})
    settings = Settings(optim=OptimSettings(batch=8), rollout=RolloutSettings(rollouts=8, max_new_tokens=256))
    work = Execution(micro_batch=micro, checkpointing=checkpointing)
    found = estimate(shape, "bf16", settings, question=256, work=work)
    assert next(part for part in found.parts if part.name == "Activations").why.startswith(f"{tokens:,} tokens")


def test_small_models_are_counted_with_their_copies() -> None:
    pocket = json.loads((WEIGHTS / "config.json").read_text())
    estimates = (estimate(read_shape(pocket), dtype, Settings()) for dtype in ("fp32", "bf16"))
    whole, half = (next(p.size for p in e.parts if p.name == "Copies to run faster") for e in estimates)
    # Four bytes a number for the base and for the student; two for the base alone, whose student has none.
    assert whole == 4 * half > 0
    assert "Copies to run faster" not in [p.name for p in estimate(read_shape(QWEN3_4B), "bf16", Settings()).parts]


def test_pictures_and_experts() -> None:
    inside = {"model_type": "gemma3", "text_config": {**QWEN3_4B, "model_type": "gemma3_text"}}
    assert read_shape(inside).parameters == read_shape(QWEN3_4B).parameters
    many = {**QWEN3_4B, "num_experts": 8, "moe_intermediate_size": 768, "num_experts_per_tok": 2}
    shape = read_shape(many)
    assert (shape.experts, shape.inner, shape.used) == (8, 768, 2)


@pytest.mark.parametrize(("precision", "wide"), [("4-bit", 0.52), ("8-bit", 1.0)])
def test_experts_are_counted_whole_where_the_rest_is_quantised(precision: str, wide: float) -> None:
    # Qwen3-30B-A3B's own numbers.
    many = {"num_experts": 128, "moe_intermediate_size": 768, "num_experts_per_tok": 8, "hidden_size": 2048}
    shape = read_shape({**QWEN3_4B, **many, "num_hidden_layers": 48, "tie_word_embeddings": False})
    experts = 48 * 128 * 3 * 2048 * 768
    weights = estimate(shape, precision, Settings()).parts[0]
    assert weights.size == pytest.approx((shape.linear - experts) * wide + (shape.other + experts) * 2.0)
    assert weights.size > 58e9 and "29.0 billion in experts x 2 bytes: they are not quantised" in weights.why
    assert "experts" not in estimate(shape, "bf16", Settings()).parts[0].why
    assert "experts" not in estimate(read_shape(QWEN3_4B), precision, Settings()).parts[0].why


@pytest.mark.parametrize("config", [{}, {"hidden_size": "big"}, {"hidden_size": True}, {"model_type": "vit"}])
def test_a_config_that_says_too_little_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"config\.json does not say"):
        read_shape(config)


def test_the_gpu_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "NVIDIA GeForce RTX 4090, 24564, 23000\n"
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, said, ""))
    memory._has_gpu.cache_clear()
    try:
        found = memory.machine()
    finally:
        memory._has_gpu.cache_clear()
    assert found == Machine("the GPU (NVIDIA GeForce RTX 4090)", 24564 * 2**20, 23000 * 2**20, True)
    assert found.auto == "bf16"


def test_without_a_gpu_it_is_the_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", missing)
    memory._has_gpu.cache_clear()
    try:
        found = memory.machine()
    finally:
        memory._has_gpu.cache_clear()
    assert not found.gpu and 0 < found.free <= found.total and found.auto == "fp32"


@pytest.mark.parametrize(
    ("size", "text"), [(9.7e6, "0.010 GB"), (4.2e8, "0.42 GB"), (7.94e9, "7.9 GB"), (6.1e10, "61 GB")]
)
def test_sizes_are_written_as_read(size: float, text: str) -> None:
    assert gigabytes(size) == text


@pytest.mark.parametrize(
    ("layers", "keys", "ends"),
    [(2, 2, False), (24, 8, True)],
    ids=["while prompts are read", "while rows that have ended leave"],
)
def test_questions_take_what_the_allocator_counts(layers: int, keys: int, ends: bool) -> None:
    wide = {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 8}
    model = tiny.model(**wide, num_key_value_heads=keys, num_hidden_layers=layers)
    rows, prompt, answer, words = 24, 64, 16, model.config.vocab_size
    settings = Settings(rollout=RolloutSettings(max_new_tokens=answer))
    said = rows * question_bytes(read_shape(model.config.to_dict()), "fp32", settings, prompt)
    decoder, prompts = LiveDecoder(model), [[5] * (prompt - i % 3) for i in range(rows)]
    end = frozenset(range(0, words, 10)) if ends else frozenset({words})
    how: dict[str, Any] = {"end": end, "pad": 0, "longest": answer, "choice": Choice(1.0)}
    assert peak_of(lambda: sample(decoder, prompts, **how)) == pytest.approx(said, rel=0.1)
