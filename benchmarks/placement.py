"""Where the adapter sits, and what that costs: python benchmarks/placement.py --seeds 1 --json

SDFT on Zorbic without keep rows. Each row changes the layers that are adapted, with a rank, a learning rate and steps
set by hand to suit them, or the divergence; so what two rows differ by is not of the placement alone. `skill` is of the
held-out questions, `retention` of the probes known before.

Each finished task is a line of benchmarks/results/placement.jsonl (`--results` names another), and is not run again
under the same defaults.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from teaching import arguments, data, in_processes, machine, say, settings, teach

from workbench import POCKET, load, sdft
from workbench.settings import own_defaults

NARROW: dict[str, Any] = {"rank": 16, "alpha": 32}
VARIANTS: dict[str, dict[str, Any]] = {
    "gate and up, rank 32 (the default)": {},
    "gate and up, rank 16": {**NARROW, "lr": 9e-4},
    "gate and up, rank 64": {"rank": 64, "alpha": 128, "lr": 4e-4},
    "gate and up, 240 steps": {"steps": 240},
    "all linear layers": {**NARROW, "targets": "all-linear", "lr": 8e-4},
    "all linear layers, half the learning rate": {**NARROW, "targets": "all-linear", "lr": 4e-4, "steps": 400},
    "attention": {**NARROW, "targets": "q_proj,k_proj,v_proj,o_proj", "lr": 9e-4, "steps": 400},
    "gate, up and down": {**NARROW, "targets": "gate_proj,up_proj,down_proj", "lr": 9e-4},
    "down": {**NARROW, "targets": "down_proj", "lr": 9e-4, "steps": 400},
    "gate and up, reverse KL": {"divergence": "reverse", "steps": 400},
}


def perform(task: Sequence[str]) -> dict[str, Any]:
    """One lesson, in this process."""
    torch.set_num_threads(1)
    name, seed = task
    return teach(sdft, load(POCKET), data("zorbic", int(seed)), settings(int(seed), **VARIANTS[name])).figures()


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=1, kept="placement.jsonl")
    options = parser.parse_args()
    if options.task:
        print("\n" + json.dumps(perform(options.task)))
        return
    tasks = [(name, str(seed)) for name in VARIANTS for seed in range(options.seeds)]
    about = {"defaults": own_defaults(pocket=True)}
    found = in_processes(__file__, tasks, options.jobs, options.results, about)
    runs = {name: found[i * options.seeds : (i + 1) * options.seeds] for i, name in enumerate(VARIANTS)}
    middle = {
        name: {key: round(statistics.median(run[key] for run in each), 4) for key in ("skill", "retention")}
        for name, each in runs.items()
    }
    if options.json:
        print(json.dumps({"placement": middle, "runs": runs, "seeds": options.seeds, "machine": machine()}))
        return
    for name, row in middle.items():
        say(f"{name:44}" + "  ".join(f"{key} {value:.2f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
