"""The lesson, measured: python benchmarks/lesson.py --seeds 5 --json

On the bundled model, a language that it has never seen (Zorbic), then a second one on top (Pelan):

    sdft       SDFT with the default settings
    sft        SFT on the same demonstrations, its learning rate and steps chosen on a validation split (the sweep is
               in the output)
    sdft_keep  SDFT with keep rows: generic questions, none of the probes
    sft_keep   SFT with the same keep rows and the base's own answers
    sequence   Pelan taught on the model that was taught Zorbic with keep rows; `without` keeps nothing, `with` keeps
               the generic questions and the first language's

Seconds are of one SDFT run that has the machine to itself; the others share it, one thread each. Figures are medians
over seeds (the seed fixes split, adapter, batches and sampling); every run is in `runs`. Skill is
the share of held-out questions answered right; retention is the share of the probes known before that are still right.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
SFT_RATES = (1e-3, 2e-3, 5e-3, 1e-2)
SFT_STEPS = (100, 200)
SECOND_STEPS = 300
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


def result_of(taught: Taught, **more: float) -> dict[str, float]:
    """The figures of one run."""
    return {"skill": taught.skill, "retention": taught.retention, "seconds": taught.seconds, **more}


def tuning_run(rate: float, steps: int) -> dict[str, Any]:
    """SFT with these settings on part of seed 0's teaching rows, scored on the rest of them."""
    inner = split(split(read(DATA / "zorbic.jsonl").rows, seed=0).teaching, held_out=0.25, seed=0)
    taught = teach(sft, load(POCKET), inner.teaching, inner.held_out, settings(0, lr=rate, steps=steps))
    return {"lr": rate, "steps": steps, "validation": taught.skill, "retention": taught.retention}


def lesson_run(name: str, seed: int, rate: float, steps: int) -> dict[str, Any]:
    """One method on Zorbic with this seed; rate and steps are SFT's."""
    parts = split(read(DATA / "zorbic.jsonl").rows, seed=seed)
    keep = read_questions(DATA / "keep.jsonl").rows if name.endswith("keep") else ()
    chosen = settings(seed, lr=rate, steps=steps) if name.startswith("sft") else settings(seed)
    method = sft if name.startswith("sft") else sdft
    return result_of(teach(method, load(POCKET), parts.teaching, parts.held_out, chosen, keep))


def sequence_run(seed: int) -> dict[str, Any]:
    """Zorbic with generic keep rows; then Pelan on top, without and with keep rows."""
    generic = read_questions(DATA / "keep.jsonl").rows
    zorbic = split(read(DATA / "zorbic.jsonl").rows, seed=seed)
    pelan = split(read(DATA / "pelan.jsonl").rows, seed=seed)
    first = teach(sdft, load(POCKET), zorbic.teaching, zorbic.held_out, settings(seed), generic)
    found: dict[str, Any] = {"sdft_keep": result_of(first)}
    second = replace(settings(seed, steps=SECOND_STEPS), keep=KeepSettings(keep_share=SECOND_SHARE))
    questions = [Demonstration(row.prompt, keep=True) for row in zorbic.teaching]
    for name, keep in (("without", ()), ("with", (*generic, *questions))):
        taught = teach(sdft, merged(first.roles), pelan.teaching, pelan.held_out, second, keep)
        left = skill_on(taught.roles, zorbic.held_out, second.rollout.max_new_tokens)
        found[f"sequence_{name}"] = result_of(taught, first=left)
    return found


def in_processes(tasks: Sequence[Sequence[str]], jobs: int) -> list[dict[str, Any]]:
    """Each task in a process of its own, `jobs` at a time, one thread each; results in the tasks' order."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}

    def run(task: Sequence[str]) -> dict[str, Any]:
        command = [sys.executable, __file__, "--task", *task]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{' '.join(task)} failed:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        say(f"  {' '.join(task)}: {json.dumps(found)}")
        return found

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(run, tasks))


def perform(task: Sequence[str]) -> dict[str, Any]:
    """One task, in this process."""
    kind, *rest = task
    torch.set_num_threads(1)
    if kind == "tune":
        return tuning_run(float(rest[0]), int(rest[1]))
    if kind == "sequence":
        return sequence_run(int(rest[0]))
    return lesson_run(kind, int(rest[0]), float(rest[1]), int(rest[2]))


def medians(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians over seeds of each figure; seconds are left out, several runs share the machine."""
    names = [key for key in runs[0] if key != "seconds"]
    return {key: round(statistics.median(entry[key] for entry in runs), 4) for key in names}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sequence-seeds", type=int, help="of the two languages in a row (default: as --seeds)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print("\n" + json.dumps(perform(options.task)))
        return
    seeds = range(options.seeds)
    # Time is taken first, with all cores to itself.
    alone = lesson_run("sdft", 0, 0, 0)
    say(f"SDFT alone on {torch.get_num_threads()} cores: {alone['seconds']:.0f} s")
    sweep = in_processes([("tune", str(r), str(n)) for n in SFT_STEPS for r in SFT_RATES], options.jobs)
    # Equal skill: the one that forgets less.
    best = max(sweep, key=lambda entry: (entry["validation"], entry["retention"]))
    tuned = (str(best["lr"]), str(best["steps"]))
    runs: dict[str, list[dict[str, Any]]] = {}
    for name in ("sdft", "sft", "sft_keep"):
        runs[name] = in_processes([(name, str(seed), *tuned) for seed in seeds], options.jobs)
    second_seeds = range(options.sequence_seeds if options.sequence_seeds is not None else options.seeds)
    for found in in_processes([("sequence", str(seed)) for seed in second_seeds], options.jobs):
        for name, figures in found.items():
            runs.setdefault(name, []).append(figures)
    middle = {name: medians(found) for name, found in runs.items()}
    kept = middle.get("sequence_with", {})
    result = {
        "seconds": round(alone["seconds"], 1),
        **middle,
        "sequence": {"first": kept.get("first"), "second": kept.get("skill"), "retention": kept.get("retention")},
        "seeds": options.seeds,
        "sequence_seeds": len(second_seeds),
        "sft_best": best,
        "sft_sweep": sweep,
        "runs": runs,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": versions(),
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
