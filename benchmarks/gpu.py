"""A 4B model in 4-bit on one GPU, or what can be said without one: python benchmarks/gpu.py --json

On an NVIDIA card: Qwen3-4B's shape with random weights (times do not depend on their values), NF4, LoRA r=16 on all
linear layers. Without one: a small Qwen3-shaped model in fp32 with the same vocabulary of 151,936. Ours and TRL's
SDFT step run in fresh processes, in turns, on the same rows and answers of fixed length (see against_trl.py).

    peak_gb               most memory alive in one of our steps, the weights included, as the allocator counts it;
                          loading and the first step, before which AdamW holds nothing, are left out
    over_trl              TRL's step time (full-vocabulary loss as ours, no checkpointing) over ours; memory_over_trl
                          the same for memory, over_trl_defaults for its defaults, whose loss is another
    decode_over_generate  time of transformers' generate over that of our loop on the model's own layers, batch 8
    sdft_over_sft         our SDFT step over our SFT step on as many tokens
    loss_gb               memory of the chunked loss over 2,048 tokens and 151,936 words
    estimate_error        what `workbench plan` says of that step over peak_gb, less 1; on a card alone
    cost                  seconds of a step as its answers become longer, and as there are more of them; cost_power is
                          the power of the number of tokens with which they grow from the least to the most (1: linear)
    predictions           memory that a step is estimated to take on cards of 6 to 24 GB; not measured

What fails, or does not fit into the time, is null; `failed` says why. The most important comes first. With --out
everything that was found is written as it is found, and the same command measures what is missing there:

    python benchmarks/gpu.py --minutes 9 --out gpu.json      # as often as it takes

docs/draw_gpu.py makes the page docs/gpu.md's table and plot from the JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.bounded import Bounded, Found, write  # noqa: E402
from benchmarks.gpu_model import ANSWERS, QWEN3_4B, SMALL, VOCABULARY, predictions  # noqa: E402

WORKER = Path(__file__).with_name("gpu_worker.py")
ROLLOUTS = {"ours": ANSWERS, "trl": ANSWERS, "sft": 1, "trl_defaults": ANSWERS}


def points(options: argparse.Namespace) -> list[tuple[int, int]]:
    """Tokens and number of the answers of each step whose cost is measured."""
    wanted = [(length, ANSWERS) for length in options.lengths]
    wanted += [(options.length, rollouts) for rollouts in options.rollouts_list]
    return list(dict.fromkeys(wanted))


def measurements(options: argparse.Namespace, gpu: bool) -> list[str]:
    """Their names in the order in which they are made."""
    memory = [] if gpu else [f"memory_{kind}" for kind in ("ours", "trl", "trl_defaults")]
    names = ["ours/1", *memory[:2], "trl/1", "sft/1", "decode", *(["captured"] if gpu else []), "loss"]
    names += ["trl_defaults/1", *memory[2:], "cost"]
    return names + [f"{kind}/{number}" for number in range(2, options.rounds + 1) for kind in ROLLOUTS]


def work_of(options: argparse.Namespace, gpu: bool) -> dict[str, Any]:
    """What the measurements depend on, as far as it was chosen."""
    return {
        "shape": {**(QWEN3_4B if gpu else SMALL), "vocab_size": VOCABULARY},
        "answers": ANSWERS,
        "completion_tokens": options.length,
        "prompt_tokens": options.prompt,
        "threads": options.threads,
        "rounds": options.rounds,
        "steps": options.steps,
        "lengths": options.lengths,
        "rollouts": options.rollouts_list,
    }


def command(name: str, options: argparse.Namespace, folder: Path, missing: Sequence[str] = ()) -> list[str]:
    """The process that makes a measurement."""
    kind = name.split("/")[0]
    rollouts = ROLLOUTS.get(kind.removeprefix("memory_"), ANSWERS)
    steps = 1 if kind.startswith("memory_") else options.steps
    numbers = {
        "--rollouts": rollouts,
        "--steps": steps,
        "--threads": options.threads,
        "--length": options.length,
        "--prompt": options.prompt,
    }
    given = [str(part) for pair in numbers.items() for part in pair]
    points = ["--points", *missing] if missing else []
    return [sys.executable, str(WORKER), kind, "--folder", str(folder), *given, *points]


def measure(options: argparse.Namespace, gpu: bool, bench: Bounded, folder: Path, found: Callable[[], None]) -> None:
    """Make the measurements that are missing.

    Args:
        found: called after each.

    Raises:
        SystemExit: what is there already was measured on another card.
    """
    left = [name for name in measurements(options, gpu) if bench.lacks(name)]
    if left:
        device = bench.found.get("model", {}).get("device")
        bench.run("model", command("model", options, folder), options.threads)
        here = bench.found.get("model", {}).get("device")
        if device and here != device:
            sys.exit(f"{options.out} was measured on {device[0]}, this is {here[0]}. Name another --out.")
        found()
    for name in left:
        if bench.lacks("model"):
            bench.failed[name] = "not begun: there is no model"
            continue
        known = bench.found.get(name, {}) if name == "cost" else {}
        missing = [f"{length}x{rollouts}" for length, rollouts in points(options)] if name == "cost" else []
        bench.run(name, command(name, options, folder, [p for p in missing if p not in known]), options.threads)
        found()
        said = bench.failed.get(name) or {key: round(values[-1], 3) for key, values in bench.found[name].items()}
        print(f"{name}: {said}", file=sys.stderr)


def report(options: argparse.Namespace, gpu: bool, bench: Bounded) -> dict[str, Any]:
    """What is known, as one object; what is not is None."""
    from workbench.runs.session import versions

    times = in_rounds(bench.found)
    step = {kind: middle(times.get(kind, {}).get("step")) for kind in ROLLOUTS}
    decode = {way: middle(seconds) for way, seconds in times.get("decode", {}).items()}
    decode |= {way: middle(seconds) for way, seconds in times.pop("captured", {}).items()}
    peaks = {kind: times.get(kind if gpu else f"memory_{kind}", {}).get("peak") for kind in ROLLOUTS if kind != "sft"}
    memory = {kind: max(peak) / 1e9 if peak else None for kind, peak in peaks.items()}
    loss = times.get("loss", {}).get("peak")
    estimate = times.get("ours", {}).get("estimate")
    error = over(estimate[0] if estimate else None, memory["ours"] and memory["ours"] * 1e9, 6)
    device = bench.found.get("model", {}).get("device", [f"CPU, {platform.machine()}"])[0]
    paid = cost(options, bench.found.get("cost", {}))
    return {
        "device": device,
        "gpu": gpu,
        "measured": "Qwen3-4B's shape, NF4" if gpu else "a small Qwen3-shaped model, fp32, on a CPU: no GPU at hand",
        "peak_gb": rounded(memory["ours"]),
        "memory_over_trl": over(memory["trl"], memory["ours"]),
        "over_trl": over(step["trl"], step["ours"]),
        "over_trl_defaults": over(step["trl_defaults"], step["ours"]),
        "decode_over_generate": over(decode.get("generate"), decode.get("live")),
        "decode_as_run_over_generate": over(decode.get("generate"), decode.get("as_run")),
        "decode_captured_over_generate": over(decode.get("generate"), decode.get("captured")),
        "sdft_over_sft": over(step["ours"], step["sft"]),
        "loss_gb": rounded(loss[0] / 1e9 if loss else None),
        "estimate_error": None if error is None else round(error - 1, 4),
        "memory_gb": {kind: rounded(size) for kind, size in memory.items()},
        "seconds": {
            kind: {phase: quartiles(values) for phase, values in phases.items() if phase not in ("peak", "estimate")}
            for kind, phases in times.items()
            if kind in ROLLOUTS or kind == "decode"
        },
        "cost": paid,
        "cost_power": {
            "length": power([c for c in paid if c["rollouts"] == ANSWERS and c["length"] in options.lengths]),
            "rollouts": power([c for c in paid if c["length"] == options.length]),
        },
        "predictions": predictions(),
        "failed": bench.failed,
        "work": work_of(options, gpu),
        "versions": versions("trl"),
        "raw": bench.found,
    }


def in_rounds(found: dict[str, Found]) -> dict[str, Found]:
    """What was found by kind, the rounds of each put together."""
    times: dict[str, Found] = {}
    for name, values in found.items():
        for phase, numbers in values.items():
            times.setdefault(name.split("/")[0], {}).setdefault(phase, []).extend(numbers)
    return times


def cost(options: argparse.Namespace, found: Found) -> list[dict[str, Any]]:
    """Seconds of a step of each point, None where they were not measured."""
    return [
        {"length": length, "rollouts": rollouts, "seconds": rounded(middle(found.get(f"{length}x{rollouts}")), 4)}
        for length, rollouts in points(options)
    ]


def power(paid: Sequence[dict[str, Any]]) -> float | None:
    """With which power of the number of tokens the seconds grow, from the least to the most."""
    known = sorted((c["length"] * c["rollouts"], c["seconds"]) for c in paid if c["seconds"])
    if len({tokens for tokens, _ in known}) < 2:
        return None
    (few, short), (many, long) = known[0], known[-1]
    return round(math.log(long / short) / math.log(many / few), 2)


def middle(values: Sequence[float] | None) -> float | None:
    """The median; None of nothing."""
    return statistics.median(values) if values else None


def quartiles(values: Sequence[float]) -> list[float]:
    """The three; of one value that value."""
    return [round(q, 4) for q in (statistics.quantiles(values, n=4) if len(values) > 1 else [*values] * 3)]


def over(one: float | None, other: float | None, digits: int = 2) -> float | None:
    """Their ratio, None where one of them is not known."""
    return round(one / other, digits) if one and other else None


def rounded(value: float | None, digits: int = 3) -> float | None:
    """The value with so many digits, None as it is."""
    return None if value is None else round(value, digits)


def go_on_from(path: Path, wanted: dict[str, Any], bench: Bounded) -> None:
    """Take over what the file says was found.

    Raises:
        SystemExit: it is about other work or other versions.
    """
    if not path.exists():
        return
    held = json.loads(path.read_text(encoding="utf-8"))
    for name, value in wanted.items():
        if held.get(name) != value:
            sys.exit(f"{path} was measured with another {name}:\n{held.get(name)}\nnot {value}\nName another --out.")
    bench.found, bench.failed = held["raw"], held["failed"]


def arguments(gpu: bool) -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="processes of each program")
    parser.add_argument("--steps", type=int, default=3, help="measured steps of each process")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--length", type=int, default=256 if gpu else 32, help="tokens of an answer")
    parser.add_argument(
        "--prompt", type=int, default=256 if gpu else 64, help="tokens of a prompt, and of what is shown"
    )
    lengths, rollouts = ([64, 256, 1024, 2048], [1, 2, 4, 8, 16, 32]) if gpu else ([16, 64, 128], [1, 2, 4, 8])
    parser.add_argument("--lengths", type=int, nargs="*", default=lengths, help="of the answers whose cost is measured")
    parser.add_argument("--rollouts-list", type=int, nargs="*", default=rollouts, help="the same for their number")
    parser.add_argument("--limit", type=float, default=300, help="seconds for each process")
    parser.add_argument("--minutes", type=float, default=120, help="for all of it; what does not fit in is null")
    parser.add_argument("--out", type=Path, help="file for what is found, as it is found; gone on from where it exists")
    parser.add_argument("--json", action="store_true")
    return parser


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print."""
    import torch

    gpu = torch.cuda.is_available()
    options = arguments(gpu).parse_args(given)
    bench = Bounded(options.limit, options.minutes)
    if options.out:
        fixed = {
            name: value for name, value in report(options, gpu, bench).items() if name in ("gpu", "work", "versions")
        }
        go_on_from(options.out, fixed, bench)

    def found() -> None:
        if options.out:
            write(options.out, json.dumps(report(options, gpu, bench)))

    # Whoever ends this, by Ctrl-C or a limit of their own, is told what was found until then.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure(options, gpu, bench, Path(folder), found)
    except KeyboardInterrupt:
        for name in measurements(options, gpu):
            if name not in bench.found:
                bench.failed.setdefault(name, "not begun: interrupted")
        found()
    result = report(options, gpu, bench)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        if name != "raw":
            print(f"{name:28}{value}")


if __name__ == "__main__":
    main()
