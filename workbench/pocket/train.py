"""Train the pocket model from nothing: python -m workbench.pocket.train --minutes 60 --out FOLDER

Every document is made on the fly from the world's seed, so none is met twice. The learning rate follows the clock:
full for the first third, then down to zero, so that a run ends in a finished model on a machine of any speed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.pocket.muon import Muon
from workbench.pocket.tokenizer import build
from workbench.pocket.world.documents import conversation, document

SHAPE: dict[str, int] = {
    "hidden_size": 192,
    "intermediate_size": 576,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 32,
    "max_position_embeddings": 1024,
}
PROMPT_WEIGHT = 0.1


def make_model(tokenizer: Any, seed: int) -> Any:
    """An untrained model."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer), tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **SHAPE,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    model.generation_config.do_sample = False
    return model


class Documents:
    """Batches of documents of like length."""

    def __init__(self, tokenizer: Any, seed: int, rows: int) -> None:
        self._tokenizer, self._r, self._rows = tokenizer, random.Random(seed), rows
        self._assistant = tokenizer.convert_tokens_to_ids("<|assistant|>")
        self._pool: list[list[list[int]]] = []

    def batch(self) -> tuple[Tensor, Tensor]:
        """Token ids [B, T], padded on the right, and the weight [B, T] of each token in the loss."""
        if not self._pool:
            texts = [conversation(*document(self._r)) for _ in range(self._rows * 16)]
            texts_ids: list[list[int]] = sorted(self._tokenizer(texts)["input_ids"], key=len)
            self._pool = [texts_ids[i : i + self._rows] for i in range(0, len(texts_ids), self._rows)]
            self._r.shuffle(self._pool)
        rows = self._pool.pop()
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        weight = torch.zeros(len(rows), width)
        for i, row in enumerate(rows):
            start = row.index(self._assistant) + 1
            ids[i, : len(row)] = torch.tensor(row)
            weight[i, 1:start] = PROMPT_WEIGHT
            weight[i, start : len(row)] = 1.0
        return ids, weight


def publish(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the model to `folder` by renaming, so that a reader never finds half of it."""
    making = folder.with_name(folder.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    model.save_pretrained(making)
    tokenizer.save_pretrained(making)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(making, folder)


def rate(done: float, step: int) -> float:
    """Share of the full learning rate when `done` (0 to 1) of the time has passed."""
    return min(1.0, step / 100) * min(1.0, max(0.0, (1 - done) / 0.67))


def main() -> None:
    """Train, with a line of the learning curve every 50 steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="start", type=Path, help="go on from this model's weights")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    if options.start:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(options.start)
        model = AutoModelForCausalLM.from_pretrained(options.start, use_safetensors=True)
    else:
        tokenizer = build(options.seed)
        model = make_model(tokenizer, options.seed)
    model.train()
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    documents = Documents(tokenizer, options.seed, options.rows)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters", flush=True)
    curve = options.out.with_name(options.out.name + ".curve.csv").open("w")
    print("step,minutes,tokens,answer_loss", file=curve, flush=True)
    start = last_saved = time.monotonic()
    step = tokens = 0
    recent = 0.0
    while (done := (time.monotonic() - start) / 60 / options.minutes) < 1:
        ids, weight = documents.batch()
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        per_token = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        weight = weight[:, 1:]
        answers = (weight == 1).float()
        answer_loss = (per_token * answers).sum() / answers.sum()
        loss = answer_loss + PROMPT_WEIGHT * (per_token * (weight == PROMPT_WEIGHT)).sum() / (weight > 0).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        share = rate(done, step + 1)
        muon.step(options.matrix_rate * share)
        for group in adam.param_groups:
            group["lr"] = options.other_rate * share
        adam.step()
        model.zero_grad(set_to_none=True)
        step += 1
        tokens += int((weight > 0).sum())
        recent = answer_loss.item() if step == 1 else 0.95 * recent + 0.05 * answer_loss.item()
        if step % 50 == 0:
            minutes = (time.monotonic() - start) / 60
            line = f"{step},{minutes:.2f},{tokens},{recent:.4f}"
            print(line, file=curve, flush=True)
            print(line, f"{tokens / minutes / 60:.0f} tokens/s", flush=True)
        if time.monotonic() - last_saved > 240:
            last_saved = time.monotonic()
            publish(model, tokenizer, options.out)
    publish(model, tokenizer, options.out)
    print(json.dumps({"steps": step, "tokens": tokens, "minutes": options.minutes, "answer_loss": round(recent, 4)}))


if __name__ == "__main__":
    main()
