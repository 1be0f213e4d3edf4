"""A made-up run: for the worker without a model (fake_worker.py) and for tests of pages. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.demonstrations import Demonstration
from workbench.events import (
    Checked,
    Evaluated,
    Event,
    Measure,
    RolloutSample,
    RunEnded,
    RunStarted,
    Saved,
    Step,
    TokenChoices,
)
from workbench.runs import Run
from workbench.runs.folder import create
from workbench.runs.log import EventWriter
from workbench.settings import OptimSettings, Settings


def measure(right: int, n: int) -> Measure:
    value = right / n if n else 0.0
    return Measure(value, n, max(0.0, value - 0.1), min(1.0, value + 0.1))


def verdict(base: Measure | None, teacher: Measure | None) -> tuple[str, str]:
    """As `workbench.evaluation.verdict` for a teacher that can do it (that one is beside torch)."""
    if base is None or teacher is None or not teacher.n:
        return "weak", "No row has an answer, so nothing can be scored."
    seen = f"{round(teacher.value * teacher.n)} of {teacher.n} questions with the example, {round(base.value * base.n)}"
    return "ready", f"The model can do this when shown how: {seen} of {base.n} without. Good to teach."


def config_of(
    method: str,
    model: str,
    settings: Settings,
    source: str,
    on: str | None = None,
    scorer: str = "contains",
    evaluate_every: int = 50,
    save_every: int = 50,
) -> dict[str, Any]:
    """A run's config.json."""
    return {
        "method": method,
        "model": model,
        "revision": None,
        "source": source,
        "on": on,
        "scorer": scorer,
        "evaluate_every": evaluate_every,
        "save_every": save_every,
        "settings": settings.to_dict(),
        "notes": [],
        "started": "2026-01-01T00:00:00+00:00",
        "versions": {},
        "threads": 2,
    }


def sample_of(row: str, prompt: str, text: str, keep: bool = False) -> RolloutSample:
    """A token map's data: the divergence is large at the first token and small at the last."""
    words = text.split(" ")
    tokens = tuple(w if i == 0 else " " + w for i, w in enumerate(words))
    divergence = tuple(round(3.0 * math.exp(-i), 5) for i in range(len(tokens)))
    choices = tuple(
        TokenChoices(
            student=((token, 0.6), (" a", 0.2), (" b", 0.1), (" c", 0.05), (" d", 0.01)),
            teacher=((" other", 0.7), (token, 0.2), (" a", 0.05), (" b", 0.02), (" c", 0.01)),
        )
        for token in tokens
    )
    return RolloutSample(row, prompt, text, tokens, divergence, keep, choices)


def events_of(run: Run) -> Iterator[Event]:
    """All events of a run that goes well; the files that they speak of are made on the way."""
    config = run.config
    steps = config["settings"]["optim"]["steps"]
    rows = run.rows("teaching")
    n, probes = len(run.rows("held-out")), len(run.probes())
    begun = RunStarted(run.name, config["method"], config["model"], steps, len(rows), n, len(run.rows("keep")), probes)
    yield replace(begun, on=config.get("on"))
    base, teacher = measure(0, n), measure(n, n)
    yield Checked(base, teacher, measure(probes, probes), *verdict(base, teacher))
    for step in range(1, steps + 1):
        row = rows[(step - 1) % len(rows)]
        samples: tuple[RolloutSample, ...] = ()
        if config["method"] == "sdft":
            samples = (sample_of(row.id or "", row.question, f"Answer of step {step} to this question."),)
        yield Step(
            step=step,
            steps=steps,
            loss=round(2.0 / step, 5),
            learning_rate=1e-3,
            gradient_norm=1.0,
            tokens=100,
            length=8.0,
            seconds={"sample": 0.1, "teacher": 0.05, "student": 0.1, "update": 0.01},
            entropy=0.5,
            agreement=min(0.99, step / steps),
            samples=samples,
        )
        last = step == steps
        if last or step % config["evaluate_every"] == 0:
            right = round(n * step / steps)
            yield Evaluated(step, measure(right, n), measure(max(0, probes - 1), probes), 0.2)
        if last or step % config["save_every"] == 0:
            (run.checkpoints / f"step-{step:06d}").mkdir(exist_ok=True)
            yield Saved(step)
    run.adapter.mkdir(exist_ok=True)
    (run.adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 16}))
    yield RunEnded(steps, 10.0)


def finished(
    folder: Path,
    name: str,
    rows: list[Demonstration],
    steps: int = 10,
    lr: float = 1e-3,
    source: str = "",
    on: str | None = None,
) -> Run:
    """A finished run."""
    settings = Settings(optim=OptimSettings(steps=steps, lr=lr))
    sides = {"teaching": rows[:8], "held-out": rows[8:]}
    probes = [Demonstration(f"What is {i} plus 4?", answer=str(i + 4)) for i in range(10)]
    run = create(folder, name, config_of("sdft", "pocket", settings, source, on, "contains", 5, 5), sides, probes)
    writer = EventWriter(run.log, 0)
    for event in events_of(run):
        writer.write(event)
    writer.close()
    for file in run.checkpoints.iterdir():
        (file / "state.json").write_text("{}")
    return run
