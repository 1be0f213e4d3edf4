"""What keep rows do, and how best to use them: python benchmarks/keep_rows.py --seeds 1 --json

Zorbic is taught to the bundled model with generic keep rows, then Pelan on top. Each row of the result changes what it
names about the second lesson: the share of keep rows and which they are (all, or the half whose answers a trial lesson
without them disturbs most, by KL), steps, learning rate and its schedule, LoRA rank, the base anchor, and who teaches
(the model as it was before any lesson, or as the first lesson left it). Three rows change more than their name says:
with an adapter on all linear layers the learning rate is lower, too, and an anchor stands in place of keep rows.
`--model FOLDER` teaches both languages to another pocket model.

    first       of the first language's held-out questions, what is left
    skill       of the second language's
    retention   of the probes that the model answers right before both; `languages` and `rest` are its parts

Each finished task is a line of benchmarks/results/keep_rows.jsonl (`--results` names another), and is not run again
under the same settings.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from teaching import (
    arguments,
    as_keep,
    data,
    finished,
    generic_keep,
    in_processes,
    machine,
    say,
    settings,
    skill_on,
    teach,
)

from workbench import (
    POCKET,
    Choice,
    Demonstration,
    Prompts,
    Roles,
    completion_logits,
    load,
    sample,
    sdft,
    sequence_mean,
    token_divergence,
)
from workbench.adapters import merge_adapter, save_adapter
from workbench.settings import GOING_ON, own_defaults
from workbench.training.scorer import Scorer

USUAL: dict[str, Any] = {name: value for values in GOING_ON.values() for name, value in values.items()}
TRIAL_STEPS = 100
VARIANTS: dict[str, dict[str, Any]] = {
    "no keep rows": {"keep": "none"},
    "generic keep rows only": {"keep": "generic"},
    "as usual": {},
    "1000 steps": {"steps": 1000},
    "400 steps": {"steps": 400},
    "share 0.2": {"keep_share": 0.2},
    "share 0.4": {"keep_share": 0.4},
    "twice the learning rate": {"lr_times": 2.0},
    "half the learning rate": {"lr_times": 0.5},
    "half the learning rate, 1000 steps": {"lr_times": 0.5, "steps": 1000},
    "constant learning rate": {"schedule": "constant"},
    "rank 8": {"rank": 8, "alpha": 16},
    "rank 64": {"rank": 64, "alpha": 128},
    "batch 64": {"batch": 64},
    "all linear layers": {"targets": "all-linear", "lr_times": 0.8},
    "most disturbed half": {"keep": "disturbed"},
    "the taught model teaches": {"teacher": "base"},
    "base anchor 0.01": {"anchor": 0.01, "keep": "none"},
    "base anchor 0.1": {"anchor": 0.1, "keep": "none"},
}


def first_lesson(seed: int, model: str, adapter: Path) -> dict[str, Any]:
    """Teach Zorbic with generic keep rows and leave the adapter in this folder."""
    taught = teach(sdft, load(model), data("zorbic", seed), settings(seed), generic_keep(), model=model)
    save_adapter(taught.roles, adapter)
    return taught.figures()


def second_lesson(name: str, seed: int, model: str, adapter: Path) -> dict[str, Any]:
    """Teach Pelan on top of the first lesson's adapter, in the way of this name."""
    changes = {**USUAL, **VARIANTS[name]}
    choice, times = changes.pop("keep", "all"), changes.pop("lr_times", 1.0)
    chosen = settings(seed, **{**changes, "lr": changes["lr"] * times})
    zorbic, pelan = data("zorbic", seed), data("pelan", seed)
    keep: list[Demonstration] = [] if choice == "none" else generic_keep()
    if choice in ("all", "disturbed"):
        keep += as_keep(zorbic.teaching)
    if choice == "disturbed":
        trial = settings(seed, steps=TRIAL_STEPS)
        disturbed = teach(sdft, merge_adapter(load(model), adapter), pelan, trial, model=model).roles
        keep = sorted(keep, key=dict(zip(keep, disturbance(disturbed, keep), strict=True)).__getitem__, reverse=True)
        keep = keep[: len(keep) // 2]
    known = load(model)
    taught = teach(sdft, merge_adapter(load(model), adapter), pelan, chosen, keep, origin=known, model=model)
    left = skill_on(taught.roles, zorbic.held_out, chosen.rollout.max_new_tokens)
    return taught.figures(first=left)


@torch.no_grad()
def disturbance(roles: Roles, rows: Sequence[Demonstration]) -> list[float]:
    """KL(base || student) on the student's greedy answer to each question, in nats per token."""
    prompts, loaded = Prompts(roles.loaded.tokenizer), roles.loaded
    asked = [prompts.tokenise(row).student for row in rows]
    answers = sample(
        roles.student_decoder,
        asked,
        end=loaded.end,
        pad=loaded.pad,
        longest=32,
        choice=Choice(temperature=0),
        device=loaded.device,
    )
    base = Scorer(roles.base_decoder, pad=loaded.pad).logits(asked, answers)
    per_token = token_divergence(completion_logits(roles, answers), base)
    return [float(sequence_mean(per_token[i : i + 1], answers.mask[i : i + 1])) for i in range(len(rows))]


def perform(task: Sequence[str], model: str, adapters: Path) -> dict[str, Any]:
    """One task, in this process."""
    torch.set_num_threads(1)
    kind, seed, *name = task
    adapter = adapters / f"first-{seed}"
    if kind == "first":
        return first_lesson(int(seed), model, adapter)
    return second_lesson(name[0], int(seed), model, adapter)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=1, kept="keep_rows.jsonl")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="VARIANT", help="some of the variants")
    parser.add_argument("--model", default=POCKET, help="folder of another pocket model")
    parser.add_argument("--adapters", type=Path, help="folder of the first lessons, which are made anew by default")
    options = parser.parse_args()
    if options.task:
        print("\n" + json.dumps(perform(options.task, options.model, options.adapters)))
        return
    names, seeds = options.only or list(VARIANTS), [str(seed) for seed in range(options.seeds)]
    size = sum(p.numel() for p in load(options.model).model.parameters())
    about = {"parameters": size, "first": own_defaults(pocket=True), "second": USUAL}
    with tempfile.TemporaryDirectory() as temporary:
        adapters = options.adapters or Path(temporary)
        given = ["--model", options.model, "--adapters", str(adapters)]
        tasks = [("second", seed, name) for name in names for seed in seeds]
        done = finished(options.results, about)
        asked = {task[1] for task in tasks if " ".join(task) not in done}
        first = [("first", seed) for seed in seeds if seed in asked and not (adapters / f"first-{seed}").exists()]
        in_processes(__file__, first, options.jobs, given=given)
        found = in_processes(__file__, tasks, options.jobs, options.results, about, given)
    rows = {name: found[i * options.seeds : (i + 1) * options.seeds] for i, name in enumerate(names)}
    middle = {
        name: {key: round(statistics.median(run[key] for run in runs), 4) for key in runs[0] if key != "seconds"}
        for name, runs in rows.items()
    }
    if options.json:
        print(json.dumps({"second_lesson": middle, "runs": rows, **about, "machine": machine()}))
        return
    for name, row in middle.items():
        say(f"{name:36}" + "  ".join(f"{key} {value:.2f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
