"""Write docs/gpu.md and docs/gpu.svg from benchmarks/results/gpu.json: python docs/draw_gpu.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results" / "gpu.json"


def page(found: dict[str, Any]) -> str:
    """The page, as Markdown."""
    work, versions = found["work"], found["versions"]
    gpu = found.get("gpu", False)
    said = "measured" if gpu else "CPU stand-in"
    rows = [
        ("peak memory of a step", "at most 6.0 GB", found["peak_gb"], " GB"),
        ("TRL's step over ours, the same loss over the whole vocabulary", "at least 3", found["over_trl"], " times"),
        ("TRL's step over ours, TRL's defaults (another loss, less work)", "", found["over_trl_defaults"], " times"),
        ("TRL's peak memory over ours, the same loss", "", found["memory_over_trl"], " times"),
        ("`generate` over our loop on the model's own layers", "at least 4", found["decode_over_generate"], " times"),
        ("`generate` over our loop as this model is run", "", found["decode_as_run_over_generate"], " times"),
        (
            "`generate` over our loop on the model's own layers, with CUDA graphs",
            "",
            found.get("decode_captured_over_generate"),
            " times",
        ),
        ("SDFT step over our SFT step", "at most 2.0", found["sdft_over_sft"], " times"),
        ("memory of the loss, 2,048 tokens", "under 0.3 GB", found["loss_gb"], " GB"),
        ("memory estimate over the peak, less 1", "within 0.1", found["estimate_error"], ""),
        *(
            (f"power of a step's tokens with which its seconds grow, {of}", "at most 1", value, "")
            for of, value in (
                ("longer answers", found.get("cost_power", {}).get("length")),
                ("more answers", found.get("cost_power", {}).get("rollouts")),
            )
        ),
    ]
    lines = [
        "# On a GPU",
        "",
        "One command compares this program with TRL on your own card, and without a card on a small stand-in:",
        "",
        '    pip install -e ".[gpu,test]" && python benchmarks/gpu.py --out benchmarks/results/gpu.json',
        "",
        "What is found is in the file as soon as it is found, the most important first. `--minutes 9` ends it after so",
        "long; the same command measures what is missing then. Where something failed the file says why.",
        "`python docs/draw_gpu.py` writes this page and its plot from that file.",
        "",
        f"What the file holds now: {found['measured']} ({found['device']}, {work['threads']} thread"
        f"{'s' if work['threads'] > 1 else ''}); {work['answers']} answers of {work['completion_tokens']} tokens to a",
        f"prompt of about {work['prompt_tokens']}, demonstrations of as many; {work['rounds']} process(es) a program "
        f"with {work['steps']} measured steps.",
        f"torch {versions['torch']}, transformers {versions['transformers']}, peft {versions['peft']}, "
        f"TRL {versions['trl']}.",
        "",
        "| | target on a GPU | found | |",
        "|---|---|---|---|",
    ]
    for name, target, value, unit in rows:
        lines.append(
            f"| {name} | {target} | {'-' if value is None else f'{value}{unit}'} | ",
        )
        lines[-1] += "not measured |" if value is None else f"{said} |"
    if not gpu:
        lines += [
            "",
            "**None of this was measured on a GPU.** The targets are for a 4B model in 4-bit on a card; the stand-in",
            "has the same vocabulary and kind of layers, but is small and in fp32, and its largest part is the head.",
            "Other work ran on the same machine: times are good for ratios alone, and for those only roughly.",
        ]
    if found.get("failed"):
        lines += ["", "Not measured, or not wholly:", ""]
        lines += [f"- {name}: {reason.splitlines()[0]}" for name, reason in found["failed"].items()]
    if found["seconds"]:
        lines += ["", "Seconds, median and quartiles:", "", "| | median | quartiles |", "|---|---|---|"]
    for name, phases in found["seconds"].items():
        for phase, (low, middle, high) in phases.items():
            lines.append(f"| {name}: {phase} | {middle:.2f} | {low:.2f}-{high:.2f} |")
    if lines_of_cost(found):
        lines += ["", "## How the cost grows", "", "![Seconds of a step against its tokens](gpu.svg)"]
    lines += [
        "",
        "## What a step is expected to take on a card",
        "",
        "Predictions of `workbench/memory.py`, not measurements: Qwen3-4B in NF4, rank 16, 8 rollouts, prompt 256,",
        "demonstration 256, completion 256. The settings with the largest passes that fit.",
        "",
        "| card | answers in a pass | checkpointing | needs |",
        "|---|---|---|---|",
    ]
    for p in found["predictions"]:
        fits = "" if p["fits"] else " (does not fit)"
        lines.append(
            f"| {p['card_gb']} GB | {p['micro_batch']} | {'yes' if p['checkpointing'] else 'no'} "
            f"| {p['needs_gb']} GB{fits} |"
        )
    return "\n".join(lines) + "\n"


def lines_of_cost(found: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """(tokens, seconds) of a step as its answers become longer and as there are more of them, what was measured."""
    known = [c for c in found["cost"] if c["seconds"] is not None]
    usual, length = found["work"]["answers"], found["work"]["completion_tokens"]
    lines = {
        f"{usual} answers, longer and longer": [c for c in known if c["rollouts"] == usual],
        f"answers of {length} tokens, more and more": [c for c in known if c["length"] == length],
    }
    points = {name: sorted((c["length"] * c["rollouts"], c["seconds"]) for c in some) for name, some in lines.items()}
    return {name: some for name, some in points.items() if len(some) > 1}


def draw(found: dict[str, Any], path: Path) -> None:
    """Seconds of a step against its tokens, both by powers of ten, with what growing in proportion would be."""
    import matplotlib

    matplotlib.use("svg")
    # The same file gives the same picture.
    matplotlib.rcParams["svg.hashsalt"] = "gpu"
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullLocator

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.set(xscale="log", yscale="log", xlabel="tokens of all answers of a step", ylabel="seconds of a step")
    axes.set_title(found["measured"], fontsize=9)
    ticks = set()
    for name, points in lines_of_cost(found).items():
        (line,) = axes.plot(*zip(*points, strict=True), marker="o", label=name)
        (first, seconds), (last, _) = points[0], points[-1]
        axes.plot([first, last], [seconds, seconds * last / first], ":", color=line.get_color())
        ticks |= {tokens for tokens, _ in points}
    if ticks:
        axes.plot([], [], ":", color="grey", label="in proportion to the tokens")
        axes.legend(fontsize=8)
        axes.set_xticks(sorted(ticks), [f"{tokens:,}" for tokens in sorted(ticks)], fontsize=8)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    (HERE / "gpu.md").write_text(page(results), encoding="utf-8")
    draw(results, HERE / "gpu.svg")
