"""What is loaded is what the files say, number by number, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GptOssConfig,
    MambaConfig,
    PreTrainedModel,
    Qwen3MoeConfig,
)

from tests import tiny
from tests.families import FAMILIES
from workbench import models
from workbench.errors import InputError
from workbench.memory import estimate, read_shape
from workbench.models import LoadedModel, LoadingNote, load
from workbench.roles import make_roles
from workbench.sampling import Choice, sample
from workbench.settings import LoraSettings, Settings

pytestmark = pytest.mark.filterwarnings("ignore::workbench.models.LoadingNote")


SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0, "eos_token_id": 3}


def of_kind(folder: Path, config: Any) -> Path:
    """A tiny random model of another architecture, with the tokenizer of `tiny`."""
    config.vocab_size = len(tiny.tokenizer())
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def keep_weights(folder: Path, keep: Callable[[str], bool]) -> None:
    """Leave of the folder's weights those that are to be kept."""
    file = folder / "model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if keep(n)}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("precision", ["fp32", "4-bit"])
def test_weights_that_the_files_lack_are_not_made_up(tmp_path: Path, precision: str) -> None:
    if precision == "4-bit":
        pytest.importorskip("bitsandbytes")
    folder = tiny.save(tmp_path, tie_word_embeddings=False)
    keep_weights(folder, lambda name: name != "lm_head.weight")
    with pytest.raises(InputError, match=r"lack lm_head\.weight, so") as raised:
        load(str(folder), precision=precision)
    assert "all of its files" in raised.value.advice
    keep_weights(folder, lambda name: ".layers.2." not in name)
    with pytest.raises(
        InputError, match=r"lack lm_head\.weight, model\.layers\.2\.input_layernorm\.weight, .* and 9 more"
    ):
        load(str(folder), precision=precision)


def test_weights_of_other_shapes_are_named(tmp_path: Path) -> None:
    config = tiny.save(tmp_path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 444}))
    with pytest.raises(
        InputError, match=r"other shapes .*model\.embed_tokens\.weight \(\[\d+, 64\], not \[444, 64\]\)"
    ):
        load(str(tmp_path))


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("precision", ["4-bit", "8-bit"])
def test_no_family_lacks_weights_when_it_is_quantised(tmp_path: Path, name: str, precision: str) -> None:
    pytest.importorskip("bitsandbytes")
    assert load(str(FAMILIES[name].save(tmp_path)), precision=precision).precision == precision


@pytest.mark.parametrize("precision", ["4-bit", "8-bit"])
def test_files_that_came_quantised_lack_nothing(tmp_path: Path, precision: str) -> None:
    pytest.importorskip("bitsandbytes")
    first = load(str(tiny.save(tmp_path / "plain")), precision=precision)
    first.model.save_pretrained(tmp_path / "small")
    first.tokenizer.save_pretrained(tmp_path / "small")
    again = load(str(tmp_path / "small"))
    ids: Any = {"input_ids": torch.arange(5, 15)[None]}
    assert again.precision == precision
    torch.testing.assert_close(again.model(**ids).logits, first.model(**ids).logits)


def greedy(loaded: LoadedModel, prompt: list[int], length: int) -> list[int]:
    """The model's own first choices, each after reading all before it anew."""
    ids = list(prompt)
    for _ in range(length):
        ids.append(int(loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 48}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(**SMALL, n_head=4, initializer_range=0.3),
        GptOssConfig(**SMALL, **EXPERTS, **HEADS, sliding_window=6, initializer_range=0.3),
    ],
    ids=["bloom", "gpt_oss"],
)
def test_attention_that_is_not_pytorchs_is_computed_by_the_model(tmp_path: Path, config: Any) -> None:
    with pytest.warns(LoadingNote, match=f"does not compute that of {config.model_type}"):
        loaded = load(str(of_kind(tmp_path, config)))
    prompts = [list(range(5, 17)), [20, 21, 22]]
    decoder = make_roles(loaded, LoraSettings()).student_decoder
    found = sample(decoder, prompts, end=frozenset(), pad=0, longest=8, choice=Choice(temperature=0)).lists()
    assert found == [greedy(loaded, prompt, 8) for prompt in prompts]
    assert len({*found[0], *found[1]}) > 3, "an answer that says one thing over and over would show nothing"


def test_gemma_2_gives_the_numbers_of_transformers(tmp_path: Path) -> None:
    loaded = load(str(FAMILIES["gemma2"].save(tmp_path)))
    own = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).requires_grad_(False)
    ids = torch.arange(5, 45)[None]
    assert own.config._attn_implementation == "eager"
    torch.testing.assert_close(loaded.model(input_ids=ids).logits, own(input_ids=ids).logits)
    assert own.config.attn_logit_softcapping == 1.0
    for layer in own.model.layers:
        layer.self_attn.attn_logit_softcapping = None
    assert float((loaded.model(input_ids=ids).logits - own(input_ids=ids).logits).abs().max()) > 0.1


def test_a_model_without_attention_is_refused_in_words(tmp_path: Path) -> None:
    folder = of_kind(tmp_path, MambaConfig(**SMALL, state_size=8))
    with pytest.raises(InputError, match="is a mamba model, which reads by a running state") as raised:
        load(str(folder))
    assert raised.value.advice == "Choose a model with attention."


@pytest.mark.parametrize("precision", ["4-bit", "8-bit"])
def test_experts_that_are_not_quantised_are_told_of_and_planned(tmp_path: Path, precision: str) -> None:
    pytest.importorskip("bitsandbytes")
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "tie_word_embeddings": False}
    config = Qwen3MoeConfig(**{**SMALL, "hidden_size": 128}, **{**HEADS, "head_dim": 32}, **experts)
    loaded = load(str(of_kind(tmp_path, config)), precision=precision)
    (note,) = (note for note in loaded.notes if "experts" in note)
    assert note.startswith("393,216 of its 588,288 weights stay in 32 bits, 0.002 GB of them")
    # On a processor, which computes in 32 bits, what is not quantised is twice as large as planned.
    held = [(p.numel() * p.element_size(), p.is_floating_point()) for p in loaded.model.parameters()]
    real = sum(size / 2 if floating else size for size, floating in held)
    planned = estimate(read_shape(config.to_dict()), precision, Settings()).parts[0].size
    assert planned == pytest.approx(real, rel=0.01)
    dense = load(str(FAMILIES["gemma3-vision"].save(tmp_path / "dense")), precision=precision)
    assert not [note for note in dense.notes if "experts" in note]


@pytest.mark.parametrize("precision", ["fp32", "4-bit"])
@pytest.mark.parametrize("free", [None, 1.5e9])
def test_a_model_that_memory_does_not_suffice_for_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, free: float | None
) -> None:
    if precision == "4-bit":
        pytest.importorskip("bitsandbytes")

    def full(*place: Any, **how: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 778.00 MiB.")

    # Quantised weights are put on the card as they are read, others once they are there.
    monkeypatch.setattr(*((PreTrainedModel, "to") if precision == "fp32" else (models, "_whole")), full)
    monkeypatch.setattr(models, "free_on", lambda device: free)
    folder = tiny.save(tmp_path)
    with pytest.raises(InputError) as raised:
        load(str(folder), precision=precision)
    had = ": the GPU had 1.5 GB free" if free else ""
    assert raised.value.problem == f"There is not enough memory to load {folder}{had}."
    assert "--precision" in raised.value.advice and f"workbench plan {folder}" in raised.value.advice
