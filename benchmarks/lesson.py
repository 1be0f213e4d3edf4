"""The lesson, measured: python benchmarks/lesson.py --seeds 5 --json

On the bundled model, a language that it has never seen (Zorbic), then a second one on top (Pelan):

    sdft       SDFT with the default settings
    sft        SFT on the same demonstrations, its learning rate and steps chosen on a validation split (the sweep is
               in the output)
    sdft_keep  SDFT with keep rows: generic questions, none of the probes
    sft_keep   SFT with the same keep rows and the base's own answers
    sequence   Pelan taught on the model that was taught Zorbic with keep rows; `without` keeps nothing, `with` keeps
               the generic questions and the first language's

Figures are medians over seeds (the seed fixes split, adapter, batches and sampling); every run is in `runs`. Skill is
the share of held-out questions answered right; retention is the share of the probes known before that are still right.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from workbench import (
    POCKET,
    POCKET_DEFAULTS,
    Demonstration,
    Exam,
    KeepSettings,
    OptimSettings,
    Prompts,
    Retention,
    Roles,
    Settings,
    Step,
    load,
    make_roles,
    read,
    read_bundled,
    read_questions,
    sdft,
    sft,
    split,
)
from workbench.adapters import merge_adapter, save_adapter
from workbench.models import LoadedModel
from workbench.runs.session import versions

DATA = Path(__file__).parent.parent / "sample_data"
SFT_RATES = (2e-4, 5e-4, 1e-3, 2e-3)
SFT_STEPS = (150, 300)
SECOND_STEPS = 600
SECOND_SHARE = 0.25
Method = Callable[..., Iterator[Step]]


@dataclass(frozen=True)
class Taught:
    """What one run came to."""

    skill: float
    retention: float
    seconds: float
    roles: Roles


def settings(seed: int, **changes: Any) -> Settings:
    """The pocket's defaults with some of the optimizer's settings changed."""
    made = Settings.from_dict(POCKET_DEFAULTS)
    return replace(made, optim=replace(made.optim, seed=seed, **changes))


def teach(
    method: Method,
    loaded: LoadedModel,
    teaching: Sequence[Demonstration],
    held_out: Sequence[Demonstration],
    chosen: Settings,
    keep: Sequence[Demonstration] = (),
) -> Taught:
    """Teach a fresh adapter on `loaded`; the time is that of teaching alone."""
    roles = make_roles(loaded, chosen.lora, chosen.optim.seed)
    start = time.perf_counter()
    for _ in method(roles, teaching, chosen, keep=keep):
        pass
    seconds = time.perf_counter() - start
    prompts, longest = Prompts(loaded.tokenizer), chosen.rollout.max_new_tokens
    exam = Exam(loaded, prompts, held_out, longest=longest)
    retention = Retention(loaded, roles.base_decoder, prompts, read_bundled(loaded), longest=longest)
    kept = retention.of(roles.student_decoder)
    assert kept is not None
    return Taught(exam.sit(roles.student_decoder).measure.value, kept.value, seconds, roles)


def skill_on(roles: Roles, rows: Sequence[Demonstration], longest: int) -> float:
    """Share of these rows that the student answers right."""
    exam = Exam(roles.loaded, Prompts(roles.loaded.tokenizer), rows, longest=longest)
    return exam.sit(roles.student_decoder).measure.value


def merged(roles: Roles) -> LoadedModel:
    """A model with what was taught in its weights, ready for the next lesson."""
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(roles, Path(folder) / "adapter")
        return merge_adapter(load(POCKET), Path(folder) / "adapter")


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def tune_sft(seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """SFT's best learning rate and steps by skill on a validation split of the teaching rows, and the whole sweep."""
    teaching = split(read(DATA / "zorbic.jsonl").rows, seed=seed).teaching
    inner = split(teaching, held_out=0.25, seed=seed)
    sweep = []
    for steps in SFT_STEPS:
        for rate in SFT_RATES:
            taught = teach(sft, load(POCKET), inner.teaching, inner.held_out, settings(seed, lr=rate, steps=steps))
            sweep.append({"lr": rate, "steps": steps, "validation": taught.skill, "retention": taught.retention})
            say(f"  sft lr {rate:g}, {steps} steps: validation {taught.skill:.2f}, retention {taught.retention:.2f}")
    # Equal skill: the one that forgets less.
    best = max(sweep, key=lambda entry: (entry["validation"], entry["retention"]))
    return best, sweep


def one_seed(seed: int, best: dict[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    """Every run of one seed."""
    generic = read_questions(DATA / "keep.jsonl").rows
    zorbic = split(read(DATA / "zorbic.jsonl").rows, seed=seed)
    pelan = split(read(DATA / "pelan.jsonl").rows, seed=seed)
    longest = settings(seed).rollout.max_new_tokens
    found: dict[str, Any] = {"seed": seed}

    def note(name: str, taught: Taught, **more: float) -> None:
        found[name] = {"skill": taught.skill, "retention": taught.retention, "seconds": taught.seconds, **more}
        say(f"  seed {seed} {name}: " + ", ".join(f"{k} {v:.3g}" for k, v in found[name].items()))

    tuned = settings(seed, lr=best["lr"], steps=best["steps"])
    if "sdft" in parts:
        note("sdft", teach(sdft, load(POCKET), zorbic.teaching, zorbic.held_out, settings(seed)))
    if "sft" in parts:
        note("sft", teach(sft, load(POCKET), zorbic.teaching, zorbic.held_out, tuned))
        note("sft_keep", teach(sft, load(POCKET), zorbic.teaching, zorbic.held_out, tuned, generic))
    if "keep" in parts or "sequence" in parts:
        first = teach(sdft, load(POCKET), zorbic.teaching, zorbic.held_out, settings(seed), generic)
        note("sdft_keep", first)
    if "sequence" in parts:
        second = replace(settings(seed, steps=SECOND_STEPS), keep=KeepSettings(keep_share=SECOND_SHARE))
        questions = [Demonstration(row.prompt, keep=True) for row in zorbic.teaching]
        for name, keep in (("without", ()), ("with", (*generic, *questions))):
            taught = teach(sdft, merged(first.roles), pelan.teaching, pelan.held_out, second, keep)
            note(f"sequence_{name}", taught, first=skill_on(taught.roles, zorbic.held_out, longest))
    return found


def medians(runs: Sequence[dict[str, Any]], name: str) -> dict[str, float] | None:
    """Medians over seeds of each figure of a run."""
    these = [run[name] for run in runs if name in run]
    if not these:
        return None
    return {key: round(statistics.median(entry[key] for entry in these), 4) for key in these[0]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", default="sdft,sft,keep,sequence", help="which of sdft, sft, keep, sequence")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parts = options.parts.split(",")
    best: dict[str, Any] = {"lr": OptimSettings().lr, "steps": 300}
    sweep: list[dict[str, Any]] = []
    if "sft" in parts:
        best, sweep = tune_sft()
        say(f"SFT's best: {best}")
    runs = [one_seed(seed, best, parts) for seed in range(options.seeds)]
    names = ("sdft", "sft", "sdft_keep", "sft_keep", "sequence_without", "sequence_with")
    found: dict[str, Any] = {name: medians(runs, name) for name in names}
    kept = found.get("sequence_with")
    result = {
        "seconds": found["sdft"] and found["sdft"]["seconds"],
        **{name: found[name] for name in names[:4]},
        "sequence": kept and {"first": kept["first"], "second": kept["skill"], "retention": kept["retention"]},
        "sequence_without": found["sequence_without"],
        "sequence_with": kept,
        "seeds": options.seeds,
        "sft_best": best,
        "sft_sweep": sweep,
        "runs": runs,
        "machine": {"cores": torch.get_num_threads(), "processor": platform.processor() or platform.machine()},
        "versions": versions(),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{'':18}{'skill':>8}{'kept':>8}{'seconds':>9}")
    for name in names:
        if found[name]:
            row = found[name]
            first = f"   first language {row['first']:.2f}" if "first" in row else ""
            print(f"{name:18}{row['skill']:8.2f}{row['retention']:8.2f}{row['seconds']:9.0f}{first}")


if __name__ == "__main__":
    main()
