"""Hold the memory estimate against the highest moment of a real SDFT step, counted by the allocator.

    python benchmarks/memory.py [--json]

Small Qwen3-shaped models with random weights and the real vocabulary of 151,936 tokens, run as large models are (not
over packed weights), in fp32, and in bf16 where the activations are kept or computed again. On a GPU the same script
counts the GPU's memory.
"""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

import workbench.roles as roles_module
from workbench import Demonstration, LoadedModel, chunked, load, make_roles
from workbench.allocations import peak_of
from workbench.decoding import LiveDecoder
from workbench.execution import Execution
from workbench.memory import PROGRAM, estimate, gigabytes, read_shape
from workbench.runs.session import versions
from workbench.settings import LoraSettings, OptimSettings, RolloutSettings, Settings
from workbench.training import TrainingState, sdft
from workbench.training.batches import make_plan

# Answers, rollouts of a prompt, tokens of an answer, hidden size.
CASES: dict[str, tuple[int, int, int, int, str, Execution]] = {
    "8 answers of 64 tokens": (8, 1, 64, 192, "fp32", Execution()),
    "8 answers, 2 at a time in a pass": (8, 1, 64, 192, "fp32", Execution(micro_batch=2)),
    "8 answers, checkpointed": (8, 1, 64, 192, "fp32", Execution(checkpointing=True)),
    "16 answers, all of them sampled 4 at a time": (16, 1, 32, 192, "fp32", Execution(micro_batch=4, at_once=4)),
    "4 answers of 160 tokens": (4, 1, 160, 192, "fp32", Execution()),
    "8 answers in bf16": (8, 1, 64, 192, "bf16", Execution()),
    "8 answers of 1 prompt": (8, 8, 64, 192, "fp32", Execution()),
    "8 answers of 2 prompts, 2 at a time in a pass": (8, 4, 64, 192, "fp32", Execution(micro_batch=2)),
    "8 answers of 1 prompt, checkpointed": (8, 8, 64, 192, "fp32", Execution(checkpointing=True)),
    "8 answers of 1 prompt in bf16": (8, 8, 64, 192, "bf16", Execution()),
    "wider, 4 answers": (4, 1, 64, 512, "fp32", Execution()),
}


def measure(name: str) -> dict[str, Any]:
    """One case: what a step took at its highest moment, and what the estimate says."""
    answers, rollouts, longest, hidden, dtype, work = CASES[name]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=151_936,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=hidden // 8,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    model = Qwen3ForCausalLM(config).to(kind).to(device).eval().requires_grad_(False)
    # The bundled tokenizer will do: what the words are does not matter, and its end token is hardly ever drawn.
    loaded = LoadedModel(model, load().tokenizer, "random", None)
    settings = Settings(
        lora=LoraSettings(),
        optim=OptimSettings(steps=1, batch=answers),
        rollout=RolloutSettings(rollouts=rollouts, max_new_tokens=longest),
    )
    chunked._at_once = len  # as on a card; on a processor a few logits at a time are compared, in the cache
    roles_module.decoder_for = LiveDecoder  # type: ignore[assignment]
    roles = make_roles(loaded, settings.lora)
    assert roles.head is not None
    shown_text = "The sum of both numbers is " + "7 " * 40
    rows = [Demonstration(f"What is {i} plus {i + 1}?", shown_text) for i in range(answers)]
    plan = make_plan(roles, rows, (), settings)
    question = max(len(row.student) for row in plan.teaching)
    shown = max(len(row.teacher) for row in plan.teaching)
    state = TrainingState.begin(roles, settings)
    took = peak_of(lambda: list(sdft(roles, rows, settings, state=state, execution=work)))
    standing = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in roles.student.parameters()}
    peak = took + sum(standing.values())
    said = estimate(
        read_shape(config.to_dict()),
        dtype,
        settings,
        question=question,
        shown=shown,
        rows=len(rows),
        work=work,
        pack=False,
    )
    predicted = said.teaching - PROGRAM
    return {
        "case": name,
        "measured": peak,
        "predicted": round(predicted),
        "error": round(predicted / peak - 1, 4),
        "weights": sum(standing.values()),
        "parts": {part.name: round(part.size) for part in said.parts},
    }


def main() -> None:
    """Measure every case and show it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", action="append", choices=tuple(CASES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [measure(name) for name in options.case or CASES]
    if options.json:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"
        print(json.dumps({"device": device, "versions": versions(), "cases": found}, indent=1))
        return
    for row in found:
        print(
            f"{row['case']:<46} measured {gigabytes(row['measured'])}, predicted {gigabytes(row['predicted'])} "
            f"({row['error']:+.1%}); weights {gigabytes(row['weights'])}"
        )


if __name__ == "__main__":
    main()
