"""Our SDFT step against TRL's, and against our own SFT step: python benchmarks/against_trl.py --json

The same model (the bundled one), rows, adapter, batch, lengths and threads. Every measurement is a fresh process;
the programs take turns, so that a busy moment of the machine does not fall on one of them. Answers have a fixed
length for both. TRL runs with its fastest settings for this (no gradient checkpointing, no logging, full-vocabulary
forward KL as ours), and once more with its defaults.

    ratio_1, ratio_8  TRL's step time over ours, with one and with eight rollouts a prompt (32 answers a step)
    sdft_over_sft     our SDFT step over our SFT step on as many tokens

Times are medians over steps of all processes, with quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Seconds = dict[str, float]

ROWS = Path(__file__).parent.parent / "sample_data" / "zorbic.jsonl"
MODEL = "pocket"  # gpu.py puts another model, other rows and other lengths in their places
LOADING: dict[str, Any] = {}
EXECUTION: dict[str, Any] = {}
BATCH = 32
LENGTH = 24
WARM_UP = 3
PROGRAMS = {
    "ours_1": ("ours", 1),
    "trl_1": ("trl", 1),
    "ours_8": ("ours", 8),
    "trl_8": ("trl", 8),
    "sft": ("sft", 1),
    "trl_defaults_8": ("trl_defaults", 8),
}


def quietly(step: int, seconds: Seconds) -> None:
    """What is done about a step by default."""


def measure_ours(
    method: str, rollouts: int, steps: int, told: Callable[[int, Seconds], None] = quietly
) -> dict[str, list[float]]:
    """Seconds of each step and phase of our loop.

    Args:
        told: called after each step, those of the warm-up too, with its number and its seconds.
    """
    from dataclasses import replace

    from workbench import Demonstration, Settings, load, make_roles, read, sdft, sft
    from workbench.models import LoadedModel
    from workbench.settings import DivergenceSettings, OptimSettings, RolloutSettings

    class FixedLength(LoadedModel):
        """Never ends an answer early."""

        end = frozenset()  # type: ignore[assignment]

    found = load(MODEL, **LOADING)
    loaded = FixedLength(found.model, found.tokenizer, found.name, found.revision)
    settings = Settings(
        optim=OptimSettings(steps=steps + WARM_UP, batch=BATCH, lr=5e-4),
        rollout=RolloutSettings(rollouts=rollouts, max_new_tokens=LENGTH),
        divergence=DivergenceSettings(skip_tokens=0),
    )
    rows: list[Demonstration] = list(read(ROWS).rows)
    if method == "sft":
        # Demonstrations of as many tokens as the answers have, the end token included.
        rows = [replace(row, demonstration=_of_length(loaded.tokenizer, row.demonstration or "")) for row in rows]
    roles = make_roles(loaded, settings.lora)
    times: dict[str, list[float]] = {"step": []}
    start = time.perf_counter()
    for event in (sdft if method == "ours" else sft)(roles, rows, settings, **EXECUTION):
        took = {"step": time.perf_counter() - start, **event.seconds}
        if event.step > WARM_UP:
            for phase, seconds in took.items():
                times.setdefault(phase, []).append(seconds)
        assert event.tokens == BATCH * LENGTH, event.tokens
        told(event.step, took)
        start = time.perf_counter()
    return times


def _of_length(tokenizer: Any, text: str) -> str:
    """The text repeated and cut so that it has LENGTH - 1 tokens."""
    ids = tokenizer(" ".join([text] * LENGTH), add_special_tokens=False)["input_ids"]
    for extra in range(8):
        candidate = tokenizer.decode(ids[: LENGTH - 1 + extra])
        for cut in range(len(candidate), 0, -1):
            if len(tokenizer(candidate[:cut], add_special_tokens=False)["input_ids"]) == LENGTH - 1:
                return str(candidate[:cut])
    raise ValueError(text)


def measure_trl(
    rollouts: int, steps: int, defaults: bool, told: Callable[[int, Seconds], None] = quietly
) -> dict[str, list[float]]:
    """Seconds of each step and phase of TRL's trainer; `told` as for ours."""
    os.environ.update(CI="1", HF_HUB_OFFLINE="1", TRL_EXPERIMENTAL_SILENCE="1")
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    from workbench import PAPER_TEMPLATE, load, read

    loaded = load(MODEL, **LOADING)
    rows = [
        {"prompt": [{"role": "user", "content": r.prompt}], "privileged_context": r.demonstration}
        for r in read(ROWS).rows
    ]
    gpu = torch.cuda.is_available()
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "max_steps": steps + WARM_UP,
        "learning_rate": 5e-4,
        "num_generations": rollouts,
        "max_completion_length": LENGTH,
        "generation_kwargs": {"min_new_tokens": LENGTH},
        "teacher_prompt_template": PAPER_TEMPLATE.replace("{demonstration}", "{privileged_context}"),
        "use_cpu": not gpu,
        "bf16": gpu and torch.cuda.is_bf16_supported(including_emulation=False),
        "fp16": gpu and not torch.cuda.is_bf16_supported(including_emulation=False),
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 10_000,
    }
    if not defaults:
        arguments |= {
            "distillation_mode": "full_logits",
            "distillation_alpha": 0.0,
            "distillation_is_clip": None,
            "gradient_checkpointing": False,
            "max_prompt_length": None,
            "dataloader_pin_memory": False,
        }
    times: dict[str, list[float]] = {"step": [], "sample": [], "forward": [], "rest": []}
    phases = {"sample": 0.0, "forward": 0.0}

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Step times, from the end of one step to the end of the next."""

        last = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            whole = time.perf_counter() - self.last
            took = {"step": whole, **phases, "rest": whole - sum(phases.values())}
            if state.global_step > WARM_UP:
                for phase, seconds in took.items():
                    times[phase].append(seconds)
            told(state.global_step, took)
            phases.update(sample=0.0, forward=0.0)
            self.last = time.perf_counter()

    def wait() -> None:
        """Until the card has done what it was told: a phase is charged for its own work alone."""
        if gpu:
            torch.cuda.synchronize()

    def timed(phase: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            wait()
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                wait()
                phases[phase] += time.perf_counter() - start

        return call

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SDFTTrainer(
            model=loaded.model,
            args=SDFTConfig(output_dir=folder, **arguments),
            train_dataset=Dataset.from_list(rows),
            processing_class=loaded.tokenizer,
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Clock()],
        )
        trainer._generate_transformers = timed("sample", trainer._generate_transformers)
        trainer._forward_logits = timed("forward", trainer._forward_logits)
        trainer.train()
    return times


def worker(kind: str, rollouts: int, steps: int, threads: int) -> None:
    """One measurement; prints its times as JSON on the last line."""
    import torch

    torch.set_num_threads(threads)
    if kind in ("ours", "sft"):
        times = measure_ours(kind, rollouts, steps)
    else:
        times = measure_trl(rollouts, steps, defaults=kind == "trl_defaults")
    print("\n" + json.dumps(times))


def in_turns(rounds: int, steps: int, threads: int) -> dict[str, dict[str, list[float]]]:
    """All programs, each in a process of its own, in turns."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in PROGRAMS}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    for number in range(rounds):
        for name, (kind, rollouts) in PROGRAMS.items():
            command = [sys.executable, __file__, "--worker", kind, "--rollouts", str(rollouts)]
            command += ["--steps", str(steps), "--threads", str(threads)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
            for phase, seconds in json.loads(done.stdout.strip().splitlines()[-1]).items():
                found[name].setdefault(phase, []).extend(seconds)
            print(f"round {number + 1} {name}: {statistics.median(found[name]['step']):.3f} s", file=sys.stderr)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each program")
    parser.add_argument("--steps", type=int, default=12, help="measured steps of each process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--rollouts", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.rollouts, options.steps, options.threads)
        return
    found = in_turns(options.rounds, options.steps, options.threads)
    step = {name: statistics.median(times["step"]) for name, times in found.items()}
    from workbench.runs.session import versions

    result = {
        "ratio_1": round(step["trl_1"] / step["ours_1"], 3),
        "ratio_8": round(step["trl_8"] / step["ours_8"], 3),
        "ratio_defaults_8": round(step["trl_defaults_8"] / step["ours_8"], 3),
        "sdft_over_sft": round(step["ours_1"] / step["sft"], 3),
        "seconds": {
            name: {phase: [round(q, 4) for q in statistics.quantiles(seconds, n=4)] for phase, seconds in times.items()}
            for name, times in found.items()
        },
        "work": {"batch": BATCH, "completion_tokens": LENGTH, "threads": options.threads},
        "steps": {name: len(times["step"]) for name, times in found.items()},
        "machine": platform.processor() or platform.machine(),
        "versions": versions("trl"),
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, phases in result["seconds"].items():
        print(f"{name:16}" + "  ".join(f"{phase} {quartiles[1] * 1000:.0f} ms" for phase, quartiles in phases.items()))
    for name in ("ratio_1", "ratio_8", "ratio_defaults_8", "sdft_over_sft"):
        print(f"{name:18}{result[name]:.2f}")


if __name__ == "__main__":
    main()
