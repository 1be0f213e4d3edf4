"""Train the pocket model: python -m workbench.pocket.train --minutes 60 --out FOLDER

Every document is made on the fly from a seed, so none is met twice. The learning rate follows the clock: full for the
first third, then down to zero, so that a run ends in a finished model on a machine of any speed. The model in FOLDER
is replaced every four minutes and can be loaded at any moment.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.pocket.muon import Muon
from workbench.pocket.tokenizer import build
from workbench.pocket.world.documents import FIRST, SECOND, Mix, document

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
MIXES = {"first": FIRST, "second": SECOND}
_SAVE_EVERY = 240.0


def make_model(tokenizer: Any, seed: int) -> Any:
    """An untrained model."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SHAPE,
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config.do_sample = False
    return model


class Documents:
    """Batches of documents of like length."""

    def __init__(self, tokenizer: Any, seed: int, rows: int, mix: Mix = FIRST) -> None:
        self._tokenizer, self._r, self._rows, self._mix = tokenizer, random.Random(seed), rows, mix
        self._assistant = tokenizer.convert_tokens_to_ids("<|assistant|>")
        self._pool: list[list[list[int]]] = []

    def batch(self) -> tuple[Tensor, Tensor]:
        """Token ids [B, T], padded on the right, and the weight [B, T] of each token in the loss."""
        if not self._pool:
            texts = [document(self._r, self._mix) for _ in range(self._rows * 16)]
            ids = sorted(self._tokenizer(texts)["input_ids"], key=len)
            self._pool = [ids[i : i + self._rows] for i in range(0, len(ids), self._rows)]
            self._r.shuffle(self._pool)
        rows = self._pool.pop()
        width = max(map(len, rows))
        batch = torch.zeros(len(rows), width, dtype=torch.long)
        weight = torch.zeros(len(rows), width)
        for i, row in enumerate(rows):
            start = row.index(self._assistant) + 1
            batch[i, : len(row)] = torch.tensor(row)
            weight[i, 1:start] = PROMPT_WEIGHT
            weight[i, start : len(row)] = 1.0
        return batch, weight


class Optimizers:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""

    def __init__(self, model: Any, matrix_rate: float, other_rate: float) -> None:
        named = list(model.named_parameters())
        matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n]
        others = [p for n, p in named if p.ndim != 2 or "embed" in n]
        self._model, self._matrix_rate, self._other_rate = model, matrix_rate, other_rate
        self._muon = Muon(matrices)
        self._adam = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def step(self, share: float) -> None:
        """Update at this share of the full learning rates, from gradients clipped to norm 1."""
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._muon.step(self._matrix_rate * share)
        for group in self._adam.param_groups:
            group["lr"] = self._other_rate * share
        self._adam.step()
        self._model.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """All of the optimizers' memory by name."""
        found = {f"muon.{i}": b for i, b in enumerate(self._muon.buffers)}
        for i, state in self._adam.state_dict()["state"].items():
            found |= {f"adam.{i}.{key}": value for key, value in state.items()}
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, index, *key = name.split(".")
            if kind == "muon":
                self._muon.buffers[int(index)].copy_(value)
            else:
                state.setdefault(int(index), {})[key[0]] = value
        self._adam.load_state_dict({"state": state, "param_groups": self._adam.state_dict()["param_groups"]})


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
    return folder.with_name(folder.name + ".optimizers.safetensors")


def save(model: Any, tokenizer: Any, optimizers: Optimizers, progress: Progress, folder: Path) -> None:
    """Publish the model, and beside it what `--resume` needs."""
    publish(model, tokenizer, folder)
    making = _memory(folder).with_suffix(".making")
    save_file(optimizers.tensors(), making, {"progress": json.dumps(asdict(progress))})
    os.replace(making, _memory(folder))


def take_up(optimizers: Optimizers, folder: Path) -> Progress:
    """Restore the optimizers and the place of an interrupted run."""
    with safe_open(_memory(folder), "pt") as file:
        optimizers.restore({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        return Progress(**json.loads(file.metadata()["progress"]))


def rate(done: float, step: int) -> float:
    """Share of the full learning rate when `done` (0 to 1) of the time has passed."""
    return min(1.0, step / 100) * min(1.0, max(0.0, (1 - done) / 0.67))


def losses(model: Any, ids: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The loss to follow, and its part over the answers alone; both means over tokens."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    per_token = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    weight = weight[:, 1:]
    answers = (weight == 1).float()
    answer_loss = (per_token * answers).sum() / answers.sum()
    prompt_loss = (per_token * (weight == PROMPT_WEIGHT)).sum() / (weight > 0).sum()
    return answer_loss + PROMPT_WEIGHT * prompt_loss, answer_loss


def train(
    model: Any,
    tokenizer: Any,
    optimizers: Optimizers,
    documents: Documents,
    progress: Progress,
    minutes: float,
    out: Path,
) -> None:
    """Train until `minutes` have passed, with a line of the learning curve every 50 steps."""
    model.train()
    curve = out.with_name(out.name + ".curve.csv")
    if progress.step == 0:
        curve.write_text("step,minutes,tokens,answer_loss\n")
    started = time.monotonic() - progress.seconds
    last_saved = time.monotonic()
    while (done := progress.seconds / 60 / minutes) < 1:
        ids, weight = documents.batch()
        loss, answer_loss = losses(model, ids, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizers.step(rate(done, progress.step + 1))
        now = answer_loss.item()
        progress.loss = now if progress.step == 0 else 0.95 * progress.loss + 0.05 * now
        progress.step += 1
        progress.tokens += int((weight > 0).sum())
        progress.seconds = time.monotonic() - started
        if progress.step % 50 == 0:
            with curve.open("a") as file:
                file.write(progress.line() + "\n")
            print(progress.line(), f"{progress.tokens / progress.seconds:.0f} tokens/s", flush=True)
        if time.monotonic() - last_saved > _SAVE_EVERY:
            save(model, tokenizer, optimizers, progress, out)
            last_saved = time.monotonic()
    save(model, tokenizer, optimizers, progress, out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="wall time of the whole run")
    parser.add_argument("--rows", type=int, default=64, help="documents a batch")
    parser.add_argument("--matrix-rate", type=float, default=0.02, help="Muon's learning rate")
    parser.add_argument("--other-rate", type=float, default=3e-3, help="AdamW's learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mix", choices=sorted(MIXES), default="first", help="what is read")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--from", dest="start", type=Path, help="begin a new part from this model's weights")
    start.add_argument("--resume", action="store_true", help="take up the interrupted run in --out")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Train from nothing, from a model, or from where a run was interrupted."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = _options()
    torch.set_num_threads(os.cpu_count() or 1)
    folder = options.out if options.resume else options.start
    if folder:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    else:
        tokenizer = build(options.seed)
        model = make_model(tokenizer, options.seed)
    optimizers = Optimizers(model, options.matrix_rate, options.other_rate)
    progress = take_up(optimizers, options.out) if options.resume else Progress()
    # An interrupted run goes on with documents that it has not read.
    documents = Documents(tokenizer, options.seed + progress.step, options.rows, MIXES[options.mix])
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters", flush=True)
    train(model, tokenizer, optimizers, documents, progress, options.minutes, options.out)
    print(json.dumps(asdict(progress)))


if __name__ == "__main__":
    main()
