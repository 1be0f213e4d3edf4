"""The lesson, measured: python benchmarks/lesson.py --seeds 5 --json

On the bundled model, a language that it has never seen (Zorbic), then a second one on top (Pelan):

    sdft       SDFT with the default settings
    sdft_both  SDFT, its learning rate, steps and adapted layers chosen on a validation split, by skill and retention
               together
    sft        SFT on the same demonstrations, the same three chosen on the same split, by skill
    sft_both   SFT, chosen by skill and retention together, where that is another setting
    sft_same   SFT with SDFT's default settings
    sdft_keep  SDFT with keep rows: generic questions, none of the probes
    sft_keep   SFT with the same keep rows and the base's own answers, at the setting that `sft` chose without them
    sequence   Pelan taught on the model that was taught Zorbic with keep rows; `without` keeps nothing, `with` keeps
               the generic questions and the first language's

Seconds are of one SDFT run that has the machine to itself; the others share it, one thread each. Figures are medians
over seeds (the seed fixes split, adapter, batches and sampling); every run is in `runs`, both sweeps in `sweeps`. Skill
is the share of held-out questions answered right; retention is the share of the probes known before that are still
right.

Each finished task is a line of benchmarks/results/lesson.jsonl (`--results` names another file), and is not run again
under the same defaults.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from teaching import (
    DATA,
    arguments,
    as_keep,
    data,
    generic_keep,
    in_processes,
    machine,
    merged,
    say,
    settings,
    skill_on,
    teach,
)

from workbench import POCKET, Settings, load, read, sdft, sft, split
from workbench.settings import own_defaults

TARGETS = ("gate_proj,up_proj", "all-linear")
# SFT's goes on to where it keeps nothing of what the model knew, and beyond: its best is 1e-2 and 1,000 steps.
SWEEPS: dict[str, list[tuple[float, int, str]]] = {
    "sft": [(rate, n, t) for n in (200, 500, 1000) for rate in (5e-4, 1e-3, 2e-3, 5e-3, 1e-2) for t in TARGETS]
    + [(2e-2, 1000, "all-linear"), (1e-2, 2000, "all-linear")],
    "sdft": [(rate, n, t) for n in (200, 320) for rate in (3e-4, 6e-4, 1e-3, 2e-3) for t in TARGETS],
}
METHODS = {"sdft": sdft, "sft": sft}


def tuning_run(method: str, rate: float, steps: int, targets: str) -> dict[str, Any]:
    """A method with these settings on part of seed 0's teaching rows, scored on the rest of them."""
    outer = split(read(DATA / "zorbic.jsonl").rows, seed=0)
    inner = split(outer.teaching, held_out=0.25, seed=0)
    taught = teach(METHODS[method], load(POCKET), inner, settings(0, lr=rate, steps=steps, targets=targets))
    return {"lr": rate, "steps": steps, "targets": targets, "validation": taught.skill, "retention": taught.retention}


def lesson_run(name: str, seed: int, **tuned: Any) -> dict[str, Any]:
    """One method on Zorbic with this seed; `tuned` is its learning rate, steps and layers, where not the defaults."""
    keep = generic_keep() if name.endswith("keep") else []
    method = METHODS[name.split("_")[0]]
    return teach(method, load(POCKET), data("zorbic", seed), settings(seed, **tuned), keep).figures()


def sequence_run(seed: int) -> dict[str, Any]:
    """Zorbic with generic keep rows; then Pelan on top, without and with keep rows."""
    generic, zorbic, pelan = generic_keep(), data("zorbic", seed), data("pelan", seed)
    first = teach(sdft, load(POCKET), zorbic, settings(seed), generic)
    found: dict[str, Any] = {"sdft_keep": first.figures()}
    second = Settings.from_dict(own_defaults(pocket=True, going_on=True))
    second = replace(second, optim=replace(second.optim, seed=seed))
    for name, keep in (("without", []), ("with", [*generic, *as_keep(zorbic.teaching)])):
        taught = teach(sdft, merged(first.roles), pelan, second, keep, origin=load(POCKET))
        left = skill_on(taught.roles, zorbic.held_out, second.rollout.max_new_tokens)
        found[f"sequence_{name}"] = taught.figures(first=left)
    return found


def perform(task: Sequence[str]) -> dict[str, Any]:
    """One task, in this process."""
    kind, *rest = task
    torch.set_num_threads(1)
    if kind == "sequence":
        return sequence_run(int(rest[0]))
    if kind == "tune":
        method, *rest = rest
        return tuning_run(method, float(rest[0]), int(rest[1]), rest[2])
    seed, *tuned = rest
    return lesson_run(kind, int(seed), **settings_of(tuned) if tuned else {})


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """Learning rate, steps and layers, as a task names them."""
    return {"lr": float(words[0]), "steps": int(words[1]), "targets": words[2]}


def words_of(found: dict[str, Any]) -> tuple[str, str, str]:
    """The inverse of `settings_of`."""
    return str(found["lr"]), str(found["steps"]), found["targets"]


def medians(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians over seeds of each figure; seconds are left out, several runs share the machine."""
    names = [key for key in runs[0] if key != "seconds"]
    return {key: round(statistics.median(entry[key] for entry in runs), 4) for key in names}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=5, kept="lesson.jsonl")
    parser.add_argument("--sequence-seeds", type=int, help="of the two languages in a row (default: as --seeds)")
    options = parser.parse_args()
    if options.task:
        print("\n" + json.dumps(perform(options.task)))
        return
    seeds = range(options.seeds)
    # Time is taken first, with all cores to itself.
    alone = lesson_run("sdft", 0)
    say(f"SDFT alone on {torch.get_num_threads()} cores: {alone['seconds']:.0f} s")
    first, second = own_defaults(pocket=True), own_defaults(pocket=True, going_on=True)
    kept = options.jobs, options.results, {"first": first}
    sweeps = {
        method: in_processes(__file__, [("tune", method, str(r), str(n), t) for r, n, t in tried], *kept)
        for method, tried in SWEEPS.items()
    }
    # Equal skill: the one that forgets less.
    hottest = max(sweeps["sft"], key=lambda entry: (entry["validation"], entry["retention"]))
    both = {m: max(sweep, key=lambda entry: entry["validation"] + entry["retention"]) for m, sweep in sweeps.items()}
    chosen: dict[str, tuple[str, ...]] = {
        "sdft": (),
        "sdft_both": words_of(both["sdft"]),
        "sft": words_of(hottest),
        "sft_both": words_of(both["sft"]),
        "sft_same": (),
        "sft_keep": words_of(hottest),
    }
    if chosen["sft_both"] == chosen["sft"]:
        del chosen["sft_both"]
    runs: dict[str, list[dict[str, Any]]] = {}
    for name, tuned in chosen.items():
        runs[name] = in_processes(__file__, [(name, str(seed), *tuned) for seed in seeds], *kept)
    second_seeds = range(options.sequence_seeds if options.sequence_seeds is not None else options.seeds)
    rows = [("sequence", str(seed)) for seed in second_seeds]
    for found in in_processes(__file__, rows, options.jobs, options.results, {"first": first, "second": second}):
        for name, figures in found.items():
            runs.setdefault(name, []).append(figures)
    middle = {name: medians(found) for name, found in runs.items()}
    last = middle.get("sequence_with", {})
    result = {
        "seconds": round(alone["seconds"], 1),
        **middle,
        "sequence": {"first": last.get("first"), "second": last.get("skill"), "retention": last.get("retention")},
        "seeds": options.seeds,
        "sequence_seeds": len(second_seeds),
        "chosen": {"sft": hottest, "sft_both": both["sft"], "sdft_both": both["sdft"]},
        "sweeps": sweeps,
        "runs": runs,
        "machine": machine(),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{'':18}{'skill':>8}{'kept':>8}")
    for name, row in middle.items():
        first = f"   first language {row['first']:.2f}" if "first" in row else ""
        print(f"{name:18}{row['skill']:8.2f}{row['retention']:8.2f}{first}")


if __name__ == "__main__":
    main()
