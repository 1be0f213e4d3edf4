"""Tiny untrained models of real architectures, with a tokenizer and a chat template, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

TEXT = [
    "How do you say red ball in Zorbic? The reply is mipa tolu, they say.",
    "What is 3 plus 4? 3 plus 4 is 7. Translate small king into Pelan.",
    "This is an example for a response to the question: Now answer with a response of your own.",
]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FAMILIES: dict[str, Any] = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
}


def tokenizer() -> Any:
    """A byte-level BPE tokenizer of 400 tokens with the pocket model's marks."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(TEXT * 5, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|end|>", padding_side="left")
    made.chat_template = TEMPLATE
    return made


def model(family: str = "qwen3", seed: int = 0, **changes: Any) -> Any:
    """A model of 3 layers and hidden size 64, its weights random but far from zero, so that tokens differ."""
    config_class, model_class, more = FAMILIES[family]
    torch.manual_seed(seed)
    config = config_class(
        **{
            "vocab_size": len(tokenizer()),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "tie_word_embeddings": True,
            "eos_token_id": 3,
            "pad_token_id": 0,
            "bos_token_id": None,
            "initializer_range": 0.2,
            **more,
            **changes,
        }
    )
    return model_class(config).eval()


def save(folder: Path, family: str = "qwen3", **changes: Any) -> Path:
    """Write a tiny model with its tokenizer as a Hugging Face folder."""
    model(family, **changes).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def in_shards(folder: Path) -> None:
    """Write a folder's weights as two files and an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, files = sorted(weights), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
