"""How much can be learned for how little forgetting? python benchmarks/frontier.py --seeds 3 --json

benchmarks/paper.py holds the methods against each other each at one setting, chosen by a rule. Here no rule chooses:
every method is run with every setting of a wide sweep, from too gentle to ruinous (SETTINGS), and measured on its way
(MEASURED, so that stopping early is among the settings). What counts is the best that any of them reaches among those
that keep at least so much of what the model knew (KEPT): the frontier. Best is by the held-out questions themselves,
which flatters all methods alike.

Each finished run is a line of benchmarks/results/frontier.jsonl (`--results` names another), and is not run again under
the same sweep.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from paper_claims import SKILLS
from paper_tasks import BUDGET, METHODS, retention, share_on
from teaching import arguments, data, in_processes, machine, settings

from workbench import POCKET, load, make_roles

SETTINGS: tuple[dict[str, Any], ...] = tuple(
    {"lr": lr} | where for where in ({}, {"targets": "all-linear"}) for lr in (1e-3, 2e-3, 5e-3, 1e-2)
)
"""Learning rates, with the adapter on the pocket's default layers and on all."""
MEASURED = (25, 50, 100, 200)
"""After so many steps of the budget's 200."""
KEPT = (0.98, 0.95, 0.9, 0.8, 0.5, 0.0)
COMPARED = ("sdft", "sft")

Point = dict[str, float]
"""`step`, `skill` on the held-out questions, `retention`: share of the probes known before that still are."""


def course(name: str, method: str, seed: int, chosen: dict[str, Any]) -> list[Point]:
    """One run of a method on a set, measured on its way."""
    parts, loaded = data(name, seed), load(POCKET)
    wanted = settings(seed, **{**BUDGET, **chosen})
    roles = make_roles(loaded, wanted.lora, seed)
    points: list[Point] = []
    for event in METHODS[method](roles, parts.teaching, wanted):
        if event.step in MEASURED:
            skill = share_on(roles.student_decoder, loaded, parts.held_out)
            points.append({"step": event.step, "skill": skill, "retention": retention(roles)})
    return points


def best(points: Iterable[Point], kept: float) -> float:
    """The most skill among the points that keep at least `kept`; 0 where none does."""
    return max((point["skill"] for point in points if point["retention"] >= kept), default=0.0)


def frontier(runs: Sequence[Sequence[Point]]) -> dict[str, list[float]]:
    """Of each share kept: median, lowest and highest best skill. `runs` has each seed's points under all settings."""
    found = {}
    for kept in KEPT:
        values = [best(points, kept) for points in runs]
        found[f"{kept:g}"] = [round(statistics.median(values), 4), min(values), max(values)]
    return found


def by_set(done: Iterable[tuple[Sequence[str], list[Point]]]) -> dict[str, dict[str, dict[str, list[Point]]]]:
    """All points of the finished tasks (set, method, seed, setting), by set, method and seed."""
    found: dict[str, dict[str, dict[str, list[Point]]]] = {}
    for (name, method, seed, _), points in done:
        found.setdefault(name, {}).setdefault(method, {}).setdefault(seed, []).extend(points)
    return found


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=3, kept="frontier.jsonl")
    parser.add_argument("--sets", nargs="+", choices=SKILLS, default=SKILLS)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=COMPARED)
    options = parser.parse_args()
    if options.task:
        torch.set_num_threads(1)
        name, method, seed, index = options.task
        print("\n" + json.dumps(course(name, method, int(seed), SETTINGS[int(index)])))
        return
    about = {"settings": SETTINGS, "measured": MEASURED, "budget": BUDGET}
    # Seed by seed, so that a sweep which is stopped has the first seeds whole.
    tasks = [
        (name, method, str(seed), str(index))
        for seed in range(options.seeds)
        for name in options.sets
        for method in options.methods
        for index in range(len(SETTINGS))
    ]
    found = by_set(zip(tasks, in_processes(__file__, tasks, options.jobs, options.results, about), strict=True))
    shares = {name: {m: frontier(list(seeds.values())) for m, seeds in by.items()} for name, by in found.items()}
    if options.json:
        print(json.dumps({"frontier": shares, "seeds": options.seeds, "machine": machine()}))
        return
    for name, methods in shares.items():
        for method, best_of in methods.items():
            print(f"{name:10}{method:24}" + "  ".join(f"kept {kept}: {s[0]:.2f}" for kept, s in best_of.items()))


if __name__ == "__main__":
    main()
