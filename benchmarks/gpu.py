"""A 4B model in 4-bit on one GPU, or what can be said without one: python benchmarks/gpu.py --json

On an NVIDIA card: Qwen3-4B's shape with random weights (times do not depend on their values), NF4, LoRA r=16 on all
linear layers. Without one: a small Qwen3-shaped model in fp32 with the same vocabulary of 151,936. Ours and TRL's
SDFT step run in fresh processes, in turns, on the same rows and answers of fixed length (see against_trl.py).

    peak_gb               most memory alive in one of our steps, the weights included, as the allocator counts it
    over_trl              TRL's step time (full-vocabulary loss as ours, no checkpointing) over ours; memory_over_trl
                          the same for memory, over_trl_defaults for its defaults, whose loss is another
    decode_over_generate  time of transformers' generate over that of our loop on the model's own layers, batch 8
    sdft_over_sft         our SDFT step over our SFT step on as many tokens
    loss_gb               memory of the chunked loss over 2,048 tokens and 151,936 words
    estimate_error        what `workbench plan` says of that step over peak_gb, less 1; on a card alone
    predictions           memory that a step is estimated to take on cards of 6 to 24 GB; not measured

docs/draw_gpu.py makes the page docs/gpu.md's table and plot from the JSON.
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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import against_trl  # noqa: E402

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
PROGRAMS = {"ours": ("ours", 8), "trl": ("trl", 8), "trl_defaults": ("trl_defaults", 8), "sft": ("sft", 1)}
CARDS = (6, 8, 12, 16, 24)
TARGET_GB = 6.0


def config_of(shape: dict[str, int]) -> Any:
    """Qwen3's config with this shape."""
    from transformers import Qwen3Config

    return Qwen3Config(
        **shape,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=3,
        pad_token_id=0,
        bos_token_id=None,
    )


def make_model(folder: Path, gpu: bool) -> None:
    """Write a model of random weights with the bundled model's tokenizer, whose words come first in the vocabulary."""
    import torch
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    from workbench.pocket import WEIGHTS

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16 if gpu else torch.float32)
    Qwen3ForCausalLM(config_of(QWEN3_4B if gpu else SMALL)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(WEIGHTS)).save_pretrained(folder)


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


def measure_decode(length: int, rounds: int, captured: bool = False) -> dict[str, list[float]]:
    """Seconds of sampling 8 answers to one prompt: our loops and transformers' generate, in turns.

    Args:
        captured: our loop with its steps recorded as CUDA graphs, in place of the others; nothing where they cannot be.
    """
    import torch

    from workbench import load, make_roles, read
    from workbench.decoding import LiveDecoder
    from workbench.decoding.captured import recorder
    from workbench.prompts import Prompts
    from workbench.sampling import sample
    from workbench.settings import LoraSettings

    roles = make_roles(load(against_trl.MODEL, **against_trl.LOADING), LoraSettings(rank=16))
    loaded = roles.loaded
    prompt = Prompts(loaded.tokenizer).tokenise(read(against_trl.ROWS).rows[0]).student
    ids = torch.tensor([prompt] * ANSWERS, device=loaded.device)

    def ours(decoder: Any) -> Any:
        fixed: dict[str, Any] = {"end": frozenset(), "pad": loaded.pad, "longest": length, "device": loaded.device}
        return lambda: sample(decoder, [prompt], rollouts=ANSWERS, **fixed)

    def generate() -> Any:
        return roles.student.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=length,
            min_new_tokens=length,
            do_sample=True,
            top_k=0,
            pad_token_id=loaded.pad,
        )

    ways = {"generate": generate, "live": ours(LiveDecoder(roles.student)), "as_run": ours(roles.student_decoder)}
    if captured:
        os.environ["WORKBENCH_CUDA_GRAPHS"] = "1"
        ways = {"captured": ways["live"]}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                times[name].append(time.perf_counter() - start)
    return times if not captured or recorder(loaded.device) is not None else {}


def measure_loss(hidden: int) -> dict[str, list[float]]:
    """Bytes that the chunked loss and its gradient take over 2,048 tokens."""
    import torch

    from workbench.allocations import peak_of
    from workbench.chunked import chunked_divergence
    from workbench.decoding import Head

    device = "cuda" if torch.cuda.is_available() else "cpu"
    head = Head(torch.randn(VOCABULARY, hidden, device=device) / hidden**0.5)
    student = torch.randn(2048, hidden, device=device, requires_grad=True)
    teacher = torch.randn(2048, hidden, device=device)
    peak = peak_of(lambda: chunked_divergence(student, head, teacher, head).per_token.mean().backward())
    return {"peak": [float(peak)]}


def worker(options: argparse.Namespace) -> None:
    """One measurement; prints it as JSON on the last line."""
    import torch

    from workbench.allocations import peak_of

    torch.set_num_threads(options.threads)
    kind, memory = options.worker.removeprefix("memory_"), options.worker.startswith("memory_")
    if memory:
        against_trl.WARM_UP, options.steps = 0, 1

    def run() -> dict[str, list[float]]:
        if kind in ("decode", "captured"):
            return measure_decode(options.length, options.steps, captured=kind == "captured")
        if kind == "loss":
            return measure_loss((QWEN3_4B if torch.cuda.is_available() else SMALL)["hidden_size"])
        if kind in ("ours", "sft"):
            return against_trl.measure_ours(kind, options.rollouts, options.steps)
        return against_trl.measure_trl(options.rollouts, options.steps, defaults=kind == "trl_defaults")

    found = {"peak": [float(peak_of(run))]} if memory else run()
    print("\n" + json.dumps(found))


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
        work = Execution(micro_batch=micro, checkpointing=not kept)
        needed = estimate(shape, "4-bit", settings, question=256, shown=512, work=work, pack=False).teaching / 1e9
        tried.append({"micro_batch": micro, "checkpointing": not kept, "needs_gb": round(needed, 2)})
    found = []
    for card in CARDS:
        best = next((t for t in tried if t["needs_gb"] <= card), None)
        found.append({"card_gb": card, **(best or min(tried, key=lambda t: t["needs_gb"])), "fits": best is not None})
    return found


def planned(length: int, rollouts: int, prompt: int) -> tuple[Any, float]:
    """How a step of 8 answers is carried out on a card by the plan for 6 GB, or for what is free where that is too
    little, and the bytes that it is estimated to take."""
    from workbench import Settings
    from workbench.memory import PROGRAM, machine, read_shape
    from workbench.planning import SPARE, fit, refusal
    from workbench.settings import OptimSettings, RolloutSettings

    shape = read_shape(config_of(QWEN3_4B).to_dict())
    settings = Settings(
        optim=OptimSettings(batch=ANSWERS), rollout=RolloutSettings(rollouts=rollouts, max_new_tokens=length)
    )
    lengths = {"question": prompt, "shown": 2 * prompt}
    for room in (TARGET_GB * 1e9 / (1 - SPARE), machine().free):
        found = fit(shape, "4-bit", settings, room, **lengths)
        if found is not None:
            return found.work, found.need.teaching - PROGRAM
    raise refusal(shape, "4-bit", settings, machine().free, **lengths)


class Bench:
    """Runs workers as fresh processes on one model and its rows."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder

    def __call__(self, kind: str, rollouts: int = ANSWERS, length: int | None = None) -> dict[str, list[float]]:
        """What one worker measured."""
        o = self.options
        command = [sys.executable, __file__, "--worker", kind, "--rollouts", str(rollouts), "--steps", str(o.steps)]
        command += ["--threads", str(o.threads), "--length", str(length or o.length), "--folder", str(self.folder)]
        command += ["--prompt", str(o.prompt)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(o.threads), "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode and kind == "captured":
            print(f"Without CUDA graphs, which failed:\n{done.stderr[-3000:]}", file=sys.stderr)
            return {}
        if done.returncode:
            sys.exit(f"{kind} failed:\n{done.stderr[-3000:]}")
        found: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{kind} {rollouts} {length or ''}: {found.get('step') or found.get('peak')}", file=sys.stderr)
        return found


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, as one object."""
    import torch

    from workbench.runs.session import versions

    gpu = torch.cuda.is_available()
    make_model(folder, gpu)
    from transformers import AutoTokenizer

    make_rows(folder / "rows.jsonl", AutoTokenizer.from_pretrained(folder), options.prompt)
    bench = Bench(options, folder)
    times: dict[str, dict[str, list[float]]] = {name: {} for name in PROGRAMS}
    for _ in range(options.rounds):
        for name, (kind, rollouts) in PROGRAMS.items():
            for phase, seconds in bench(kind, rollouts).items():
                times[name].setdefault(phase, []).extend(seconds)
    times["decode"] = bench("decode")
    if gpu:
        times["decode"] |= bench("captured")
    memory = {name: bench(f"memory_{name}")["peak"][0] / 1e9 for name in ("ours", "trl", "trl_defaults")}
    cost = []
    for length in options.lengths:
        cost.append({"length": length, "rollouts": ANSWERS, "seconds": bench("ours", ANSWERS, length)["step"]})
    step = {name: statistics.median(found["step"]) for name, found in times.items() if "step" in found}
    decode = {way: statistics.median(seconds) for way, seconds in times["decode"].items()}
    return {
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {platform.machine()}",
        "measured": "Qwen3-4B's shape, NF4" if gpu else "a small Qwen3-shaped model, fp32, on a CPU: no GPU at hand",
        "peak_gb": round(memory["ours"], 3),
        "memory_over_trl": round(memory["trl"] / memory["ours"], 2),
        "over_trl": round(step["trl"] / step["ours"], 2),
        "over_trl_defaults": round(step["trl_defaults"] / step["ours"], 2),
        "decode_over_generate": round(decode["generate"] / decode["live"], 2),
        "decode_as_run_over_generate": round(decode["generate"] / decode["as_run"], 2),
        "decode_captured_over_generate": (
            round(decode["generate"] / decode["captured"], 2) if "captured" in decode else None
        ),
        "sdft_over_sft": round(step["ours"] / step["sft"], 2),
        "loss_gb": round(bench("loss")["peak"][0] / 1e9, 3),
        "estimate_error": (
            round(planned(options.length, ANSWERS, options.prompt)[1] / (memory["ours"] * 1e9) - 1, 4) if gpu else None
        ),
        "memory_gb": {name: round(size, 3) for name, size in memory.items()},
        "seconds": {
            name: {phase: [round(q, 4) for q in statistics.quantiles(s, n=4)] for phase, s in found.items()}
            for name, found in times.items()
        },
        "cost": [{**c, "seconds": round(statistics.median(c["seconds"]), 4)} for c in cost],
        "predictions": predictions(),
        "work": {
            "shape": {**(QWEN3_4B if gpu else SMALL), "vocab_size": VOCABULARY},
            "answers": ANSWERS,
            "completion_tokens": options.length,
            "prompt_tokens": options.prompt,
            "threads": options.threads,
            "rounds": options.rounds,
            "steps": options.steps,
        },
        "versions": {**versions(), "trl": __import__("importlib.metadata").metadata.version("trl")},
    }


def main() -> None:
    """Measure and print."""
    import torch

    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3 if gpu else 2, help="processes of each program")
    parser.add_argument("--steps", type=int, default=5 if gpu else 3, help="measured steps of each process")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--length", type=int, default=256 if gpu else 32, help="tokens of an answer")
    parser.add_argument(
        "--prompt", type=int, default=256 if gpu else 64, help="tokens of a prompt, and of what is shown"
    )
    parser.add_argument("--lengths", type=int, nargs="*", default=[64, 256, 1024, 2048] if gpu else [16, 64, 128])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--rollouts", type=int, default=ANSWERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        against_trl.MODEL, against_trl.ROWS = str(options.folder), options.folder / "rows.jsonl"
        against_trl.BATCH, against_trl.LENGTH, against_trl.WARM_UP = ANSWERS, options.length, 1
        if gpu:
            against_trl.LOADING = {"precision": "4-bit"}
            against_trl.EXECUTION = {"execution": planned(options.length, options.rollouts, options.prompt)[0]}
        worker(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:28}{value}")


if __name__ == "__main__":
    main()
