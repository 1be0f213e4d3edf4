"""Why the pocket forgets more on its own samples than on its teacher's: python benchmarks/slips.py --json

On `zorbic`, with the settings of the claim `on-policy` of benchmarks/paper.py (200 steps of 16 answers, learning rate
2e-3), SDFT keeps less of what the model could do than the same teacher followed on answers of its own. A slip is a
token of the student's that the teacher, shown the example, gives less than one chance in twenty; what follows it is
an answer that neither would have begun so. The same run is made

    whole     as SDFT is: every token of the student's answer counts
    cut       what follows an answer's first slip is left out of the loss
    offline   on the teacher's own answers, drawn once (benchmarks/offline.py)

Printed, of whole's first step: `after`, the share of tokens that follow a slip, and the mean KL of the tokens up to
it and after it; of each run: skill on held-out questions, and retention.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from offline import offline
from paper_tasks import retention, share_on
from teaching import arguments, data, in_processes, machine, settings
from torch import Tensor

from workbench import (
    POCKET,
    Completions,
    Demonstration,
    Roles,
    Scorer,
    Settings,
    TrainingState,
    load,
    make_roles,
    sequence_mean,
)
from workbench.decoding import Predictions
from workbench.execution import Execution
from workbench.training.batches import make_plan
from workbench.training.comparing import compare
from workbench.training.parts import rollouts
from workbench.training.student import completion_predictions

WAYS = ("whole", "cut", "offline")
BUDGET: dict[str, Any] = {"batch": 16, "steps": 200, "lr": 2e-3}
UNLIKELY = 0.05


def until_slip(teacher: Predictions, answers: Completions) -> Tensor:
    """[B, T], 1 at an answer's tokens up to the first that the teacher finds unlikely, that one too."""
    chance = teacher.logits().float().softmax(-1).gather(-1, answers.ids[..., None])[..., 0]
    slips = ((chance < UNLIKELY) & answers.mask.bool()).long()
    return answers.mask * (slips.cumsum(1) - slips == 0)


def taught(roles: Roles, rows: Sequence[Demonstration], chosen: Settings, cut: bool) -> Iterator[dict[str, float]]:
    """SDFT's steps, with the loss on all tokens or cut at the first slip; yields what a step's tokens were like."""
    plan, pad = make_plan(roles, rows, (), chosen), roles.loaded.pad
    teacher = Scorer(roles.base_decoder, pad=pad, head=roles.head, frozen_prompts=[r.teacher for r in plan.teaching])
    state = TrainingState.begin(roles, chosen)
    while state.step < chosen.optim.steps:
        state.clear()
        batch = plan.batch(state.step)
        answers = rollouts(roles, batch, chosen, state.step, bool, Execution())
        said = teacher.predict([row.teacher for row in batch], answers)
        found = compare(completion_predictions(roles, answers), said, answers.mask, chosen)
        kept = until_slip(said, answers)
        loss = sequence_mean(found.per_token, kept if cut else answers.mask)
        state.accumulate(loss)
        state.update(float(loss.detach()))
        divergence, before, after = found.per_token.detach(), kept.bool(), (answers.mask - kept).bool()
        yield {
            "after": float(after.sum() / answers.mask.sum()),
            "kl_until": float(divergence[before].mean()),
            "kl_after": float(divergence[after].mean()),
        }


def measure(seed: int, way: str) -> dict[str, Any]:
    """One run, with its skill and retention."""
    torch.set_num_threads(1)
    parts, chosen = data("zorbic", seed), settings(seed, **BUDGET)
    roles = make_roles(load(POCKET), chosen.lora, seed)
    begun: dict[str, float] = {}
    if way == "offline":
        for _ in offline(roles, parts.teaching, chosen):
            pass
    else:
        begun, *_ = taught(roles, parts.teaching, chosen, way == "cut")
    return {
        "seed": seed,
        "way": way,
        "skill": share_on(roles.student_decoder, roles.loaded, parts.held_out),
        "retention": retention(roles),
        **{name: round(value, 4) for name, value in begun.items()},
    }


def main() -> None:
    """Measure each way with each seed, and print medians."""
    options = arguments(__doc__, seeds=3).parse_args()
    if options.task:
        seed, way = options.task
        print(json.dumps(measure(int(seed), way)))
        return
    tasks = [(str(seed), way) for seed in range(options.seeds) for way in WAYS]
    runs = in_processes(__file__, tasks, options.jobs)

    def medians(way: str, *figures: str) -> dict[str, float]:
        chosen = [run for run in runs if run["way"] == way]
        return {name: round(statistics.median(run[name] for run in chosen), 4) for name in figures}

    found: dict[str, Any] = {"first_step": medians("whole", "after", "kl_until", "kl_after")}
    found |= {way: medians(way, "skill", "retention") for way in WAYS}
    if options.json:
        print(json.dumps(found | {"runs": runs, "machine": machine()}))
        return
    first = found["first_step"]
    print(f"In the first step {first['after']:.0%} of the tokens follow a slip.")
    print(f"KL {first['kl_until']:.2f} up to it, {first['kl_after']:.2f} after it.")
    for way in WAYS:
        print(f"{way:8} skill {found[way]['skill']:.2f}, retention {found[way]['retention']:.2f}")


if __name__ == "__main__":
    main()
