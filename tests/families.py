"""The families that the documentation names, as tiny random models with their real classes, marks and templates.

What differs between them is kept: tied heads, biases, norms of queries and keys, sliding windows, layers without
rotary embedding, fused projections, a partial rotary embedding, and which token ends a turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    SiglipVisionConfig,
    SmolLM3Config,
)

from tests.tiny import TEXT

TEMPLATES = Path(__file__).parent / "templates"
SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "rms_norm_eps": 1e-6,
}


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        marks: the tokens of its template that must be one token each, those that are not special last.
        ends_text, ends_turn: the tokenizer's end, and the one behind an answer.
        changes: what its config says beside the size.
        targets: the linear layers that LoRA goes on.
    """

    template: str
    config: Any
    marks: tuple[str, ...]
    ends_text: str
    ends_turn: str
    begins: str | None = None
    pads: str | None = None
    plain_marks: tuple[str, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def tokenizer(self) -> Any:
        """A byte-level BPE tokenizer with the family's marks and template."""
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        named = [t for t in (self.pads, self.begins, self.ends_text, self.ends_turn) if t]
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=list(dict.fromkeys([*named, *self.marks])),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        raw.train_from_iterator(TEXT * 5, trainer)
        raw.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in self.plain_marks])
        made = PreTrainedTokenizerFast(
            tokenizer_object=raw, bos_token=self.begins, eos_token=self.ends_text, pad_token=self.pads
        )
        made.chat_template = (TEMPLATES / f"{self.template}.jinja").read_text(encoding="utf-8")
        return made

    def save(self, folder: Path, seed: int = 0, **changes: Any) -> Path:
        """Write a tiny random model of the family with its tokenizer as a Hugging Face folder."""
        tokenizer = self.tokenizer()
        torch.manual_seed(seed)
        ends = tokenizer.convert_tokens_to_ids([self.ends_turn, self.ends_text])
        known = {
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        sizes = {**SIZE, **known, **self.changes, **changes}
        text = {k: v for k, v in sizes.items() if not isinstance(v, dict) or k != "vision_config"}
        if self.config is Gemma3Config:
            # A token of the vocabulary stands for a picture, as in the published ones.
            pictures = {"mm_tokens_per_image": 4, "image_token_id": len(tokenizer) - 1}
            config = Gemma3Config(text_config=text, vision_config=sizes["vision_config"], **pictures)
        else:
            config = self.config(**text)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if "norm" in name:  # set to 1 or 0 otherwise, which would hide a norm that is left out
                parameter.data += 0.2 * torch.randn_like(parameter)
        if self.template == "gemma3":  # it multiplies them by the root of the width, and then says one word for ever
            model.get_input_embeddings().weight.data *= 0.05
        model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder


_CHATML = ("<|im_start|>", "<|im_end|>")
_QWEN: dict[str, Any] = {
    "marks": _CHATML,
    "ends_text": "<|im_end|>",
    "ends_turn": "<|im_end|>",
    "pads": "<|endoftext|>",
}
_GEMMA: dict[str, Any] = {
    "template": "gemma3",
    "marks": ("<start_of_turn>", "<end_of_turn>"),
    "ends_text": "<eos>",
    "ends_turn": "<end_of_turn>",
    "begins": "<bos>",
    "pads": "<pad>",
}
_WINDOW: dict[str, Any] = {
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 12,
}
_SDPA = {"attn_implementation": "sdpa"}

FAMILIES = {
    "qwen2.5": Family("qwen2_5", Qwen2Config, changes={"tie_word_embeddings": True}, **_QWEN),
    "qwen3": Family(
        "qwen3",
        Qwen3Config,
        plain_marks=("<think>", "</think>"),
        changes={"tie_word_embeddings": True},
        **_QWEN,
    ),
    "llama3": Family(
        "llama3",
        LlamaConfig,
        ("<|start_header_id|>", "<|end_header_id|>"),
        "<|eot_id|>",
        "<|eot_id|>",
        begins="<|begin_of_text|>",
        pads="<|finetune_right_pad_id|>",
        changes={
            "tie_word_embeddings": True,
            # Llama 3.2's own: long wavelengths are stretched.
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    # A bound on the logits and one on attention's scores, so tight that they would be missed. Its own template is
    # Gemma 3's without a system message.
    "gemma2": Family(
        config=Gemma2Config,
        changes={**_WINDOW, "attn_logit_softcapping": 1.0, "final_logit_softcapping": 5.0},
        **_GEMMA,
    ),
    # gemma-3-1b: text alone, a window in five layers of six, and (here, as in Gemma 2) a bound on the logits.
    "gemma3": Family(config=Gemma3TextConfig, changes={**_WINDOW, **_SDPA, "final_logit_softcapping": 30.0}, **_GEMMA),
    # gemma-3-4b and larger: the same inside a model that sees, too.
    "gemma3-vision": Family(
        config=Gemma3Config,
        changes={
            **_WINDOW,
            **_SDPA,
            "vision_config": SiglipVisionConfig(
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=28,
                patch_size=7,
            ).to_dict(),
        },
        **_GEMMA,
    ),
    "phi4-mini": Family(
        "phi4_mini",
        Phi3Config,
        ("<|system|>", "<|user|>", "<|assistant|>"),
        "<|endoftext|>",
        "<|end|>",
        begins="<|endoftext|>",
        pads="<|endoftext|>",
        changes={
            "tie_word_embeddings": True,
            "original_max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75},
        },
        targets=("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    ),
    "smollm3": Family(
        "smollm3",
        SmolLM3Config,
        _CHATML,
        "<|im_end|>",
        "<|im_end|>",
        pads="<|endoftext|>",
        plain_marks=("<think>", "</think>"),
        # Every fourth layer of the real one has no rotary embedding; of two layers, the second.
        changes={"tie_word_embeddings": True, "no_rope_layers": [1, 0]},
    ),
}
