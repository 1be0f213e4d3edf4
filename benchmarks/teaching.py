"""What the benchmarks of the bundled model share: teach it, measure it, and do so in many processes."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from workbench import (
    POCKET,
    POCKET_DEFAULTS,
    Demonstration,
    Exam,
    LoadedModel,
    Prompts,
    Retention,
    Roles,
    Settings,
    Split,
    Step,
    decoder_for,
    load,
    make_roles,
    read,
    read_questions,
    split,
)
from workbench.adapters import merge_adapter, save_adapter
from workbench.evaluation import bundled_probes
from workbench.runs.session import versions

DATA = Path(__file__).parent.parent / "sample_data"
RESULTS = Path(__file__).parent / "results"
Method = Callable[..., Iterator[Step]]


if hasattr(torch.ops.mkldnn, "_linear_pointwise"):

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _onednn_flops(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
        """PyTorch's counter knows no products of oneDNN, which workbench.decoding.products takes."""
        return 2 * math.prod(x) * weight[0]


@dataclass(frozen=True)
class Taught:
    """What one run came to.

    Attributes:
        skill: share of the held-out questions answered right.
        retention: share of the probes that the base answers right and the student still does.
        languages, rest: the same of the probes about known languages, and of all others.
        seconds: of teaching alone.
    """

    skill: float
    retention: float
    languages: float
    rest: float
    seconds: float
    roles: Roles

    def figures(self, **more: float) -> dict[str, float]:
        """The numbers alone."""
        names = ("skill", "retention", "languages", "rest", "seconds")
        return {name: round(getattr(self, name), 4) for name in names} | more


def settings(seed: int, **changes: Any) -> Settings:
    """The pocket's defaults with some settings changed, whatever group they are in."""
    made = Settings.from_dict(POCKET_DEFAULTS)
    groups = made.to_dict()
    for name, value in {"seed": seed, **changes}.items():
        group = next(g for g, values in groups.items() if name in values)
        groups[group][name] = value
    return Settings.from_dict(groups)


def data(name: str, seed: int) -> Split:
    """A sample set, split as this seed splits it."""
    return split(read(DATA / f"{name}.jsonl").rows, seed=seed)


def generic_keep() -> list[Demonstration]:
    """The bundled keep rows: questions about what the model knows, none of the probes."""
    return list(read_questions(DATA / "keep.jsonl").rows)


def pocket_probes() -> list[Demonstration]:
    """The probes of a pocket model of any size."""
    return list(read_questions(bundled_probes(is_pocket=True), need_answer=True).rows)


def as_keep(rows: Sequence[Demonstration]) -> list[Demonstration]:
    """The questions of these rows, whose answers should stay as they are."""
    return [Demonstration(row.prompt, keep=True) for row in rows]


def teach(
    method: Method,
    loaded: LoadedModel,
    parts: Split,
    chosen: Settings,
    keep: Sequence[Demonstration] = (),
    should_stop: Callable[[], bool] = bool,
    origin: LoadedModel | None = None,
    model: str = POCKET,
) -> Taught:
    """Teach a fresh adapter on `loaded` and measure the student; `origin` is `model`, before any lesson."""
    roles = make_roles(loaded, chosen.lora, chosen.optim.seed, origin)
    start = time.perf_counter()
    for _ in method(roles, parts.teaching, chosen, keep=keep, should_stop=should_stop):
        pass
    return measured(roles, parts.held_out, chosen, time.perf_counter() - start, model)


def measured(
    roles: Roles, held_out: Sequence[Demonstration], chosen: Settings, seconds: float, model: str = POCKET
) -> Taught:
    """The student's skill and retention, this against `model` as it was before any lesson."""
    loaded, longest = roles.loaded, chosen.rollout.max_new_tokens
    prompts = Prompts(loaded.tokenizer)
    exam = Exam(loaded, prompts, held_out, longest=longest)
    original = decoder_for(load(model).model)
    retention = Retention(loaded, original, prompts, pocket_probes(), longest=longest)
    now = retention.exam.sit(roles.student_decoder)
    known = [
        (row, hit) for row, was, hit in zip(retention.exam.rows, retention.base.hits, now.hits, strict=True) if was
    ]
    tongues = [hit for row, hit in known if row.tags[0].startswith("language ")]
    others = [hit for row, hit in known if not row.tags[0].startswith("language ")]
    return Taught(
        skill=exam.sit(roles.student_decoder).measure.value,
        retention=share_of([hit for _, hit in known]),
        languages=share_of(tongues),
        rest=share_of(others),
        seconds=seconds,
        roles=roles,
    )


def share_of(hits: Sequence[bool]) -> float:
    """Share of hits."""
    return sum(hits) / len(hits)


def skill_on(roles: Roles, rows: Sequence[Demonstration], longest: int) -> float:
    """Share of these rows that the student answers right."""
    exam = Exam(roles.loaded, Prompts(roles.loaded.tokenizer), rows, longest=longest)
    return exam.sit(roles.student_decoder).measure.value


def merged(roles: Roles) -> LoadedModel:
    """The bundled model with what was taught in its weights, ready for the next lesson."""
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(roles, Path(folder) / "adapter")
        return merge_adapter(load(POCKET), Path(folder) / "adapter")


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def in_processes(
    script: str,
    tasks: Sequence[Sequence[str]],
    jobs: int,
    kept: Path | None = None,
    about: dict[str, Any] | None = None,
    given: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Each task as `script GIVEN --task ...` in a process of its own, `jobs` at a time, one thread each.

    A task prints its result as JSON on its last line. Results are in the tasks' order. With `kept`, each is a line of
    that file as soon as it is there, with what it is `about` (the settings that the task's name leaves out), and a task
    that the file has under the same is not run again.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    lock, known = threading.Lock(), finished(kept, about)

    def run(task: Sequence[str]) -> dict[str, Any]:
        name = " ".join(task)
        if name in known:
            return known[name]
        done = subprocess.run(
            [sys.executable, script, *given, "--task", *task], capture_output=True, text=True, env=environment
        )
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        say(f"  {name}: {json.dumps(found)}")
        if kept is not None:
            with lock, kept.open("a") as file:
                file.write(json.dumps({"task": name, "about": about, "found": found}) + "\n")
        return found

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(run, tasks))


def finished(kept: Path | None, about: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """What this file has of tasks under these settings, by the task's words."""
    lines = kept.read_text().splitlines() if kept is not None and kept.exists() else []
    same = json.loads(json.dumps(about))
    return {line["task"]: line["found"] for line in map(json.loads, lines) if line["about"] == same}


def arguments(doc: str | None, seeds: int, kept: str | None = None) -> argparse.ArgumentParser:
    """The flags that these benchmarks share; `kept` names the file of results that finished tasks are kept in."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    if kept is not None:
        parser.add_argument("--results", type=Path, default=RESULTS / kept, help="file of the finished tasks")
    return parser


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {"cores": os.cpu_count(), "processor": _processor(), "versions": versions()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine()
