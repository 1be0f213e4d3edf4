"""Train the pocket model: python -m workbench.pocket.train --tokens 24 --out FOLDER

Every document is made on the fly from a seed, so none is met twice. AdamW with weight decay: the learning rate is full
for the first 60% of the tokens, then falls to zero in a straight line. Weight decay matters here: it keeps what is
known by heart in few directions of the weights, so that an adapter can add a skill without disturbing the others.

The model in FOLDER is replaced every 500 steps and can be loaded at any moment; `--resume` takes an interrupted run up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.pocket.tokenizer import build
from workbench.pocket.world.documents import document

SHAPE = {
    "hidden_size": 192,
    "intermediate_size": 576,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 32,
    "max_position_embeddings": 1024,
}
PROMPT_WEIGHT = 0.1
STEADY = 0.6
"""Share of the tokens that are read at the full learning rate."""

WIDTHS = 16
"""Batches are as wide as a multiple of it: kernels are kept for every width met, which came to gigabytes."""

_SAVE_EVERY = 500
_WARMUP = 200


def shape(heads: int, layers: int) -> dict[str, int]:
    """`SHAPE` with other numbers of query heads, which fix the width, and layers."""
    width = heads * SHAPE["head_dim"]
    return SHAPE | {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
    }


def make_model(tokenizer: Any, seed: int, sizes: dict[str, int] = SHAPE) -> Any:
    """An untrained model."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config.do_sample = False
    return model


class Documents:
    """Batches of documents of like length."""

    def __init__(self, tokenizer: Any, seed: int, rows: int, draw: Callable[[random.Random], str] = document) -> None:
        self._tokenizer, self._r, self._rows, self._draw = tokenizer, random.Random(seed), rows, draw
        self._opens = tokenizer.convert_tokens_to_ids("<|assistant|>")
        self._closes = tokenizer.convert_tokens_to_ids("<|end|>")
        self._pool: list[list[list[int]]] = []

    def batch(self) -> tuple[Tensor, Tensor]:
        """Token ids [B, T], padded on the right, and the weight [B, T] of each token in the loss."""
        if not self._pool:
            texts = [self._draw(self._r) for _ in range(self._rows * 16)]
            ids = sorted(self._tokenizer(texts)["input_ids"], key=len)
            self._pool = [ids[i : i + self._rows] for i in range(0, len(ids), self._rows)]
            self._r.shuffle(self._pool)
        rows = self._pool.pop()
        width = -(-max(map(len, rows)) // WIDTHS) * WIDTHS
        batch = torch.zeros(len(rows), width, dtype=torch.long)
        weight = torch.zeros(len(rows), width)
        for i, row in enumerate(rows):
            batch[i, : len(row)] = torch.tensor(row)
            weight[i, 1 : len(row)] = torch.tensor(self._weights(row)[1:])
        return batch, weight

    def _weights(self, row: list[int]) -> list[float]:
        """1 for every token that the assistant says, its end mark included; little for what is said to it."""
        weights, speaking = [], False
        for token in row:
            weights.append(1.0 if speaking else PROMPT_WEIGHT)
            speaking = token == self._opens or (speaking and token != self._closes)
        return weights


def make_optimizer(model: Any, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW, with weight decay on the matrices."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)


@dataclass(slots=True)
class Progress:
    """How far a run is; `loss` is a moving average over answer tokens."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0

    def line(self) -> str:
        """A row of the learning curve."""
        return f"{self.step},{self.seconds / 60:.2f},{self.tokens},{self.loss:.4f}"


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


def _memory(folder: Path) -> Path:
    return folder.with_name(folder.name + ".optimizer.safetensors")


def save(model: Any, tokenizer: Any, optimizer: torch.optim.Optimizer, progress: Progress, folder: Path) -> None:
    """Publish the model, and beside it what `--resume` needs."""
    publish(model, tokenizer, folder)
    state = optimizer.state_dict()["state"]
    tensors = {f"{i}.{key}": value for i, values in state.items() for key, value in values.items()}
    making = _memory(folder).with_suffix(".making")
    save_file(tensors, making, {"progress": json.dumps(asdict(progress))})
    os.replace(making, _memory(folder))


def take_up(optimizer: torch.optim.Optimizer, folder: Path) -> Progress:
    """Restore the optimizer and the place of an interrupted run."""
    state: dict[int, dict[str, Tensor]] = {}
    with safe_open(_memory(folder), "pt") as file:
        for name in file.keys():  # noqa: SIM118
            index, key = name.split(".")
            state.setdefault(int(index), {})[key] = file.get_tensor(name)
        progress = Progress(**json.loads(file.metadata()["progress"]))
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress


def rate(done: float, step: int) -> float:
    """Share of the full learning rate when `done` (0 to 1) of the tokens have been read."""
    return min(1.0, step / _WARMUP) * min(1.0, max(0.0, (1 - done) / (1 - STEADY)))


def losses(model: Any, ids: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The loss to follow, and its part over the answers alone; both means over tokens."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    per_token = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    weight = weight[:, 1:]
    answers = (weight == 1).float()
    answer_loss = (per_token * answers).sum() / answers.sum()
    prompt_loss = (per_token * ((weight > 0) & (weight < 1))).sum() / (weight > 0).sum()
    return answer_loss + PROMPT_WEIGHT * prompt_loss, answer_loss


def train(
    model: Any,
    tokenizer: Any,
    optimizer: torch.optim.Optimizer,
    documents: Documents,
    progress: Progress,
    options: argparse.Namespace,
) -> None:
    """Train until the tokens have been read, with a line of the learning curve every 50 steps."""
    model.train()
    curve = options.out.with_name(options.out.name + ".curve.csv")
    if progress.step == 0:
        curve.write_text("step,minutes,tokens,answer_loss\n")
    started = time.monotonic() - progress.seconds
    while (done := progress.tokens / (options.tokens * 1e6)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = options.lr * rate(done, progress.step + 1)
        ids, weight = documents.batch()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss, answer_loss = losses(model, ids, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        now = answer_loss.item()
        progress.loss = now if progress.step == 0 else 0.95 * progress.loss + 0.05 * now
        progress.step += 1
        progress.tokens += int((weight > 0).sum())
        progress.seconds = time.monotonic() - started
        if progress.step % 50 == 0:
            with curve.open("a") as file:
                file.write(progress.line() + "\n")
            print(progress.line(), f"{progress.tokens / progress.seconds:.0f} tokens/s", flush=True)
        if progress.step % _SAVE_EVERY == 0:
            save(model, tokenizer, optimizer, progress, options.out)
    save(model, tokenizer, optimizer, progress, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=float, default=24, help="millions of tokens to read")
    parser.add_argument("--rows", type=int, default=64, help="documents a batch")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate at its highest")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--heads", type=int, default=6, help="query heads, an even number; the width is 32 of each")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 products, for processors that have them")
    parser.add_argument("--compile", action="store_true", help="compile the model first; needs a C++ compiler")
    parser.add_argument("--resume", action="store_true", help="take up the interrupted run in --out")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Train from nothing, or from where a run was interrupted."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = _options()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    if options.resume:
        tokenizer = AutoTokenizer.from_pretrained(options.out)
        model = AutoModelForCausalLM.from_pretrained(options.out, use_safetensors=True, dtype=torch.float32)
    else:
        tokenizer = build(options.seed)
        model = make_model(tokenizer, options.seed, shape(options.heads, options.layers))
    optimizer = make_optimizer(model, options.lr, options.weight_decay)
    progress = take_up(optimizer, options.out) if options.resume else Progress()
    # An interrupted run goes on with documents that it has not read.
    documents = Documents(tokenizer, options.seed + progress.step, options.rows)
    if options.compile:
        model.compile(dynamic=True)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters", flush=True)
    train(model, tokenizer, optimizer, documents, progress, options)
    print(json.dumps(asdict(progress)))


if __name__ == "__main__":
    main()
