"""One measurement of benchmarks/gpu.py, in a process of its own: python benchmarks/gpu_worker.py KIND --folder F ...

What it finds is said as soon as it is known, a line `MEASURED {name: [numbers]}` each, so that a process that is
stopped has said what it had. Times are seconds, memory is bytes.

    model       writes the model and its rows into the folder
    ours, sft, trl, trl_defaults
                seconds of each step and phase, its warm-up left out; on a card also the peak of these steps
    memory_...  the peak of a step of the same, where there is no card
    decode      seconds of 8 answers by transformers' generate and by our loops; captured: by CUDA graphs
    loss        the peak of the loss by itself
    cost        seconds of a step of each of --points, LENGTHxROLLOUTS
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import against_trl  # noqa: E402
from benchmarks.bounded import MARK  # noqa: E402
from benchmarks.gpu_model import ANSWERS, QWEN3_4B, SMALL, VOCABULARY, make_model, make_rows, planned  # noqa: E402

LOSS_TOKENS = 2048
WARM_UP = 1


def say(**found: list[Any]) -> None:
    """Tell the process that waits for it."""
    print("\n" + MARK + json.dumps(found), flush=True)


def measure_step(kind: str, rollouts: int, steps: int) -> None:
    """Say the seconds of each step after the warm-up; the peak that is looked for is that of these steps."""
    from workbench.allocations import forget_peak

    def told(step: int, seconds: dict[str, float]) -> None:
        if step == WARM_UP:
            forget_peak()
        elif step > WARM_UP:
            say(**{phase: [value] for phase, value in seconds.items()})

    if kind in ("ours", "sft"):
        against_trl.measure_ours(kind, rollouts, steps, told)
    else:
        against_trl.measure_trl(rollouts, steps, kind == "trl_defaults", told)


def measure_cost(points: list[str], prompt: int, gpu: bool) -> bool:
    """Say the seconds of a step for each number of tokens and rollouts, of one prompt; True if all were measured."""
    whole = True
    for point in points:
        length, rollouts = map(int, point.split("x"))
        against_trl.LENGTH = length
        against_trl.BATCH = rollouts

        def told(step: int, seconds: dict[str, float], point: str = point) -> None:
            if step > WARM_UP:
                say(**{point: [seconds["step"]]})

        try:
            if gpu:
                against_trl.EXECUTION = {"execution": planned(length, rollouts, prompt, answers=rollouts)[0]}
            against_trl.measure_ours("ours", rollouts, 1, told)
        except Exception:  # noqa: BLE001 - the other points can be measured all the same
            whole = False
            print(f"{point}:\n{traceback.format_exc()}", file=sys.stderr)
        gc.collect()
    return whole


def measure_decode(length: int, rounds: int, captured: bool) -> None:
    """Say the seconds of sampling 8 answers to one prompt: our loops and transformers' generate, in turns.

    Args:
        captured: our loop with its steps recorded as CUDA graphs, in place of the others.

    Raises:
        CaptureNote: they could not be recorded, and why.
    """
    import torch

    from workbench import load, make_roles, read
    from workbench.decoding import LiveDecoder
    from workbench.decoding.captured import CaptureNote
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
        warnings.simplefilter("error", CaptureNote)  # else it would go on without them
        ways = {"captured": ways["live"]}
    for number in range(rounds + WARM_UP):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= WARM_UP:
                say(**{name: [time.perf_counter() - start]})


def measure_loss(hidden: int, vocabulary: int = VOCABULARY) -> None:
    """Say the bytes that the chunked loss and its gradient take, in the type that a model's head has when loaded."""
    import torch

    from workbench import quantised
    from workbench.allocations import peak_of
    from workbench.chunked import chunked_divergence
    from workbench.decoding import Head

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made: dict[str, Any] = {"device": device, "dtype": quantised.choose("auto", None, device).compute}
    head = Head(torch.randn(vocabulary, hidden, **made) / hidden**0.5)
    student = torch.randn(LOSS_TOKENS, hidden, **made).requires_grad_()
    teacher = torch.randn(LOSS_TOKENS, hidden, **made)
    say(peak=[peak_of(lambda: chunked_divergence(student, head, teacher, head).per_token.mean().backward())])


def prepare(folder: Path, prompt: int, gpu: bool) -> None:
    """Write the model and its rows, and say what is measured on."""
    import torch
    from transformers import AutoTokenizer

    make_model(folder, gpu)
    make_rows(folder / "rows.jsonl", AutoTokenizer.from_pretrained(folder), prompt)
    if gpu:
        say(device=[torch.cuda.get_device_name()])


def run(options: argparse.Namespace, gpu: bool) -> int:
    """The measurement; the exit status."""
    from workbench.allocations import peak_of

    kind = options.kind.removeprefix("memory_")
    against_trl.MODEL, against_trl.ROWS = str(options.folder), options.folder / "rows.jsonl"
    against_trl.BATCH, against_trl.LENGTH, against_trl.WARM_UP = ANSWERS, options.length, WARM_UP
    if gpu:
        against_trl.LOADING = {"precision": "4-bit"}
        if kind in ("ours", "sft"):
            work, needed = planned(options.length, options.rollouts, options.prompt)
            against_trl.EXECUTION = {"execution": work}
            say(estimate=[needed])
    if kind == "cost":
        return 0 if measure_cost(options.points, options.prompt, gpu) else 1
    if kind in ("decode", "captured"):
        measure_decode(options.length, options.steps, captured=kind == "captured")
    elif kind == "loss":
        measure_loss((QWEN3_4B if gpu else SMALL)["hidden_size"])
    else:
        step: Callable[[], None] = lambda: measure_step(kind, options.rollouts, options.steps)  # noqa: E731
        # On a card the count costs nothing; on a CPU it takes the profiler, whose times say nothing.
        if gpu or options.kind != kind:
            say(peak=[peak_of(step)])
        else:
            step()
    return 0


def main() -> int:
    """Measure and say."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("--folder", type=Path, required=True, help="with the model and rows.jsonl")
    parser.add_argument("--rollouts", type=int, default=ANSWERS)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--points", nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    gpu = torch.cuda.is_available()
    if options.kind == "model":
        prepare(options.folder, options.prompt, gpu)
        return 0
    return run(options, gpu)


if __name__ == "__main__":
    sys.exit(main())
