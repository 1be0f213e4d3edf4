"""What benchmarks/gpu.py measures on: a model of random weights, rows of given lengths, and how a step is carried out.

Qwen3-4B's shape in NF4 where there is an NVIDIA card; a small Qwen3-shaped model in fp32 with the same vocabulary of
151,936 where there is none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import against_trl

VOCABULARY = 151_936
QWEN3_4B = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
SMALL = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
ANSWERS = 8
CARDS = (6, 8, 12, 16, 24)
TARGET_GB = 6.0


def config_of(shape: dict[str, int]) -> Any:
    """Qwen3's config with this shape."""
    from transformers import Qwen3Config

    return Qwen3Config(
        **{
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "eos_token_id": 3,
            "pad_token_id": 0,
            "bos_token_id": None,
            **shape,
        }
    )


def make_model(folder: Path, gpu: bool) -> None:
    """Write a model of random weights with the bundled model's tokenizer, whose words come first in the vocabulary."""
    import torch
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    from workbench.pocket import WEIGHTS

    torch.manual_seed(0)
    if gpu:
        write_quantised(folder, config_of(QWEN3_4B), "cuda")
    else:
        Qwen3ForCausalLM(config_of(SMALL)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(WEIGHTS)).save_pretrained(folder)


def write_quantised(folder: Path, config: Any, device: str) -> None:
    """Write a checkpoint as transformers writes one that bitsandbytes holds in NF4 with double quantisation.

    Each matrix is made and quantised where bitsandbytes is fast, one at a time, so that neither 8 GB of plain weights
    are ever written or read, nor every process that loads the model quantises it again.
    """
    import torch
    from bitsandbytes.functional import quantize_4bit
    from safetensors.torch import save_file
    from transformers import Qwen3ForCausalLM

    from workbench import quantised

    plain = quantised.choose("auto", None, torch.device(device))
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config)
    state = {}
    for name, parameter in model.named_parameters():  # the tied head is the embedding
        made = torch.ones(parameter.shape, dtype=plain.compute, device=device)
        if parameter.dim() == 2:
            made.normal_(std=config.initializer_range)
        if parameter.dim() == 1 or "embed" in name:
            state[name] = made.cpu()
            continue
        packed, scales = quantize_4bit(made, quant_type="nf4", compress_statistics=True)
        state[name] = packed.cpu()
        state |= {f"{name}.{part}": value.cpu() for part, value in scales.as_dict(packed=True).items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config.architectures, config.dtype = ["Qwen3ForCausalLM"], plain.compute
    config.quantization_config = quantised.Precision("4-bit", plain.compute, quantise=True).config().to_dict()
    config.save_pretrained(folder)


def make_rows(path: Path, tokenizer: Any, tokens: int) -> None:
    """Rows whose question and demonstration have about `tokens` tokens each."""
    from workbench import read

    lines = []
    for row in read(against_trl.ROWS).rows[:32]:
        question, shown = (
            tokenizer.decode(tokenizer(" ".join([text] * tokens), add_special_tokens=False)["input_ids"][:tokens])
            for text in (row.prompt, row.demonstration)
        )
        lines.append(json.dumps({"prompt": question, "demonstration": shown}))
    path.write_text("\n".join(lines) + "\n")


def planned(length: int, rollouts: int, prompt: int, answers: int = ANSWERS) -> tuple[Any, float]:
    """How a step is carried out on a card by the plan for 6 GB, or for what is free where that is too little.

    Args:
        length: tokens of an answer.
        prompt: tokens of a prompt, and of what is shown.

    Returns:
        That `Execution`, and the bytes that it is estimated to take, the program itself left out.
    """
    from workbench import Settings
    from workbench.memory import PROGRAM, machine, read_shape
    from workbench.planning import SPARE, fit, refusal
    from workbench.settings import OptimSettings, RolloutSettings

    shape = read_shape(config_of(QWEN3_4B).to_dict())
    settings = Settings(
        optim=OptimSettings(batch=answers), rollout=RolloutSettings(rollouts=rollouts, max_new_tokens=length)
    )
    lengths = {"question": prompt, "shown": 2 * prompt}
    for room in (TARGET_GB * 1e9 / (1 - SPARE), machine().free):
        found = fit(shape, "4-bit", settings, room, **lengths)
        if found is not None:
            return found.work, found.need.teaching - PROGRAM
    raise refusal(shape, "4-bit", settings, machine().free, **lengths)


def predictions() -> list[dict[str, Any]]:
    """For each card the settings with the largest passes whose estimate fits, or why none does."""
    from workbench import Settings
    from workbench.execution import Execution
    from workbench.memory import estimate, read_shape
    from workbench.settings import LoraSettings, OptimSettings, RolloutSettings

    shape = read_shape(config_of(QWEN3_4B).to_dict())
    settings = Settings(
        optim=OptimSettings(batch=ANSWERS),
        rollout=RolloutSettings(rollouts=ANSWERS, max_new_tokens=256),
        lora=LoraSettings(rank=16),
    )
    tried = []
    for micro, kept in ((8, True), (4, True), (2, True), (1, True), (8, False), (4, False), (2, False), (1, False)):
        work = Execution(micro_batch=micro, checkpointing=not kept, prefix_bytes=0)
        needed = estimate(shape, "4-bit", settings, question=256, shown=512, work=work, pack=False).teaching / 1e9
        tried.append({"micro_batch": micro, "checkpointing": not kept, "needs_gb": round(needed, 2)})
    found = []
    for card in CARDS:
        best = next((t for t in tried if t["needs_gb"] <= card), None)
        found.append({"card_gb": card, **(best or min(tried, key=lambda t: t["needs_gb"])), "fits": best is not None})
    return found
