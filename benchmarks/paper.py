"""The paper's claims in miniature: python benchmarks/paper.py [--seeds 5] [--claim NAME ...] --json

Every claim of Shenfeld, Damani, Hübotter and Agrawal (arXiv 2601.19897) that the bundled model can be asked about,
measured on it; docs/paper.md tells what came out. Each finished task is a line of benchmarks/results/paper.jsonl,
written as it finishes: a run that is stopped goes on where it was, and a task that is in the file with the same
settings and code is not run again. Each method's settings are chosen on a validation split first, set by set, by the
same sweep for all, which is kept too.

    --report     run nothing; draw table and plots from the results
    --list       say which tasks there are and which are done
    --claim      some of the claims; `--claim learns keeps`
    --pockets    the folder with the two smaller pockets, `weak` and `middle` (docs/paper.md says how to train them)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import permutations
from pathlib import Path
from typing import Any

from paper_claims import CLAIMS, FOLLOWED, GENTLY, OFFLINE, SKILLS, judge, table
from paper_tasks import POCKETS_AT, Task, perform
from teaching import machine, say

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "paper.jsonl"
POCKETS = Path(__file__).parent / "pockets"
SIZES = {"weak": "--heads 4 --layers 3 --tokens 2", "middle": "--heads 4 --layers 4 --tokens 8"}
BOTH = ("sdft", "sft")
SWEEP: tuple[dict[str, Any], ...] = tuple(
    {"lr": lr} | where for where in ({}, {"targets": "all-linear"}) for lr in (1e-3, 2e-3, 5e-3)
)
"""Learning rates, with the adapter on the pocket's default layers and on all: from the gentlest on. All else is the
same for all methods, so that they see the same rows equally often."""

GENTLE: dict[str, Any] = {"lr": 6e-4, "batch": 32, "steps": 320}
"""A lesson of three times as many answers at a third of the learning rate, as benchmarks/lesson.py has it."""

Tuned = dict[str, dict[str, dict[str, Any]]]
"""The settings that did best, by set and by method."""

_DECIDES = ("workbench/*.py", "workbench/training/*.py", "workbench/decoding/*.py", "workbench/evaluation/*.py")
_DECIDES += ("benchmarks/paper_tasks.py", "benchmarks/offline.py", "sample_data/*.jsonl")
_DECIDES += ("workbench/pocket/probes.jsonl", "workbench/pocket/weights/model.safetensors")


def code_version(root: Path = ROOT) -> str:
    """A short hash over every file that decides what a task finds."""
    digest = hashlib.sha256()
    for pattern in _DECIDES:
        for path in sorted(root.glob(pattern)):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def weights_of(folder: Path) -> dict[str, str]:
    """A short hash of each smaller pocket's weights, of those that are there."""
    files = {size: folder / size / "model.safetensors" for size in SIZES}
    return {s: hashlib.sha256(f.read_bytes()).hexdigest()[:12] for s, f in files.items() if f.exists()}


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file; a last line that was cut short is passed over."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            say("A line of the results is cut short and is passed over.")
    return found


def left_to_do(tasks: Iterable[Task], results: Sequence[dict[str, Any]], code: str) -> list[Task]:
    """The tasks that are not in the results with the same settings and code."""
    done = {json.dumps(line["task"], sort_keys=True) for line in results if line["code"] == code}
    return [task for task in tasks if json.dumps(task, sort_keys=True) not in done]


def tuning(needed: Iterable[tuple[str, str]]) -> list[Task]:
    """The sweep of these (set, method) pairs."""
    swept = [(name, method, chosen) for name, method in needed for chosen in SWEEP]
    return [{"kind": "tune", "set": name, "method": method, "settings": chosen} for name, method, chosen in swept]


def best(results: Sequence[dict[str, Any]], code: str) -> Tuned:
    """The best settings of each set and method whose sweep is complete; of equals the gentlest.

    Best is the sum of what is learned and what is kept: a learner that goes on needs both.
    """
    lines = [r for r in results if r["task"]["kind"] == "tune" and r["code"] == code]
    swept: dict[tuple[str, str], dict[int, float]] = {}
    for line in lines:
        task, figures = line["task"], line["figures"]
        scores = swept.setdefault((task["set"], task["method"]), {})
        scores[SWEEP.index(task["settings"])] = round(figures["validation"] + figures["retention"], 4)
    found: Tuned = {}
    for (name, method), scores in swept.items():
        if len(scores) == len(SWEEP):
            found.setdefault(name, {})[method] = SWEEP[min(scores, key=lambda i: (-scores[i], i))]
    return found


def design(claims: Sequence[str], seed: int, tuned: Tuned, sizes: dict[str, str]) -> list[Task]:
    """One seed's tasks for these claims. Tasks that several claims need are there once.

    A task that differs from the plain run of its method by more than its seed says so in `variant`.
    """
    tasks: list[Task] = []

    def add(kind: str, **more: Any) -> None:
        task = {"kind": kind, "seed": seed} | more
        if task not in tasks:
            tasks.append(task)

    def both(kind: str, set: str, **more: Any) -> None:
        for method in BOTH:
            add(kind, set=set, method=method, settings=tuned[set][method], **more)

    for claim in claims:
        if claim in ("learns", "keeps"):
            for name in SKILLS:
                both("learn", name)
        elif claim == "knowledge":
            both("knowledge", "events")
        elif claim == "teachers":
            both("learn", "quiz")
            for teacher in ("ema", "live"):
                chosen = tuned["quiz"]["sdft"] | {"teacher": teacher}
                add("learn", set="quiz", method="sdft", settings=chosen, variant=teacher)
        elif claim == "on-policy":
            for name in FOLLOWED:
                for method in ("sdft", *OFFLINE):
                    add("learn", set=name, method=method, settings=tuned[name][method])
            for method in ("sdft", *OFFLINE):
                add("learn", set="zorbic", method=method, settings=GENTLE, variant=GENTLY)
        elif claim == "cost":
            add("cost", set="quiz", settings={})
        elif claim == "skip":
            for skipped in (0, 3):
                chosen = {"lr": 2e-3, "skip_tokens": skipped}
                add("leak", set="zorbic", method="sdft", settings=chosen, variant=f"skip {skipped}")
        elif claim == "sizes":
            for size, weights in sizes.items():
                both("learn", "toolbox", size=size, weights=weights)
            both("learn", "toolbox")
        elif claim == "in a row":
            # All six orders, each with a seed of its own, however many seeds the other claims have.
            for number, order in enumerate(permutations(SKILLS)):
                for method in BOTH:
                    chosen = {name: tuned[name][method] for name in SKILLS}
                    for keep in (False, True):
                        row = {"order": list(order), "method": method, "settings": chosen, "keep": keep}
                        add("in a row", **row, seed=number)
        elif claim == "look-alike":
            add("look-alike")
    return tasks


def needs(claims: Sequence[str]) -> list[tuple[str, str]]:
    """The (set, method) pairs for which these claims need settings."""
    sets = {"knowledge": ["events"], "teachers": ["quiz"], "sizes": ["toolbox"]}
    sets |= dict.fromkeys(("learns", "keeps", "in a row"), list(SKILLS))
    needed: dict[tuple[str, str], None] = {}
    for claim in claims:
        needed |= dict.fromkeys((name, method) for name in sets.get(claim, []) for method in BOTH)
        if claim == "on-policy":
            needed |= dict.fromkeys((name, method) for name in FOLLOWED for method in ("sdft", *OFFLINE))
    return list(needed)


def run(tasks: Sequence[Task], results: Path, code: str, jobs: int) -> None:
    """Run what is not done yet, in processes of one thread each; append each result as it comes."""
    waiting = left_to_do(tasks, read_results(results), code)
    about = {"code": code, "commit": _commit(), "machine": machine()}
    os.environ["OMP_NUM_THREADS"] = "1"
    failed = 0
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(perform, task): task for task in waiting}
        for number, future in enumerate(as_completed(running), start=1):
            task = running[future]
            try:
                figures = future.result()
            except Exception as error:  # one task's failure must not lose the others
                failed += 1
                say(f"[{number}/{len(waiting)}] {json.dumps(task)} failed: {error!r}")
                continue
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"task": task, "figures": figures, **about}) + "\n")
            say(f"[{number}/{len(waiting)}] {json.dumps(task)}: {json.dumps(figures)}")
    if failed:
        raise SystemExit(f"{failed} tasks failed (see above). The others are kept; run the same command again.")


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--claim", nargs="+", choices=list(CLAIMS), default=list(CLAIMS), metavar="NAME")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--pockets", type=Path, default=POCKETS, help="where the smaller pockets are")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--list", action="store_true", help="say what there is to do, and do nothing")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ[POCKETS_AT] = str(options.pockets.resolve())
    sizes = weights_of(options.pockets)
    code = code_version()
    if not options.report:
        if not options.list:
            run(tuning(needs(options.claim)), options.results, code, options.jobs)
        tuned = best(read_results(options.results), code)
        missing = [f"{method} on {name}" for name, method in needs(options.claim) if method not in tuned.get(name, {})]
        if missing:
            raise SystemExit(f"Not tuned yet: {', '.join(missing)}. Run without --list first.")
        tasks = [task for seed in range(options.seeds) for task in design(options.claim, seed, tuned, sizes)]
        # A task that several seeds or claims ask for is run once.
        tasks = list({json.dumps(task): task for task in tasks}.values())
        if options.list:
            waiting = left_to_do(tasks, read_results(options.results), code)
            for task in tasks:
                print("to do" if task in waiting else "done ", json.dumps(task))
            return
        run(tasks, options.results, code, options.jobs)
    claims = judge(read_results(options.results), options.claim)
    print(json.dumps({"claims": claims}) if options.json else table(claims))


if __name__ == "__main__":
    sys.exit(main())
