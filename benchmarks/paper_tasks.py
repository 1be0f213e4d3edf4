"""The experiments behind benchmarks/paper.py: each task teaches one model in one way and measures it.

A task is a plain dictionary that says everything about it; `perform` turns it into a dictionary of figures. Skill is
the share of held-out questions answered right; retention is the share of the probes known before that still are.
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import torch
from offline import offline
from teaching import DATA, as_keep, data, pocket_probes, settings
from torch.utils.flop_counter import FlopCounterMode

from workbench import (
    POCKET,
    Demonstration,
    LoadedModel,
    Prompts,
    Roles,
    Split,
    answer,
    decoder_for,
    get_scorer,
    load,
    make_roles,
    read,
    sdft,
    sft,
    split,
)
from workbench.adapters import merge_adapter, save_adapter

Task = dict[str, Any]
Figures = dict[str, Any]

BUDGET: dict[str, Any] = {"batch": 16, "steps": 200}
"""Of every run of every method; learning rate and layers come with the task."""

KEEPING: dict[str, Any] = {"keep_share": 0.375, "steps": 300}
"""Where keep rows ride along they take six rows of a batch of 16, and a lesson is longer, so that the set is met as
often as without them."""

POCKETS_AT = "PAPER_POCKETS"
"""The environment variable that says where the smaller pockets are."""

PREFACE = "Following the example,"
"""What the leaky teacher says before its answer."""

LONGEST = 32
METHODS: dict[str, Callable[..., Iterator[Any]]] = {
    "sdft": sdft,
    "sft": sft,
    "offline distillation": functools.partial(offline, follow="distil"),
    "sft on teacher samples": functools.partial(offline, follow="imitate"),
}
_right = get_scorer("contains")


def teach(
    method: str,
    loaded: LoadedModel,
    rows: Sequence[Demonstration],
    seed: int,
    keep: Sequence[Demonstration] = (),
    origin: LoadedModel | None = None,
    **changes: Any,
) -> Roles:
    """A fresh adapter on `loaded`, taught these rows; `origin` is the model before any lesson."""
    chosen = settings(seed, **{**BUDGET, **changes})
    roles = make_roles(loaded, chosen.lora, seed, origin)
    more = {"keep": keep} if keep else {}
    for _ in METHODS[method](roles, rows, chosen, **more):
        pass
    return roles


def answers_of(decoder: Any, loaded: LoadedModel, rows: Sequence[Demonstration], shown: bool = False) -> list[str]:
    """Greedy answers to these rows, with the demonstration in the prompt where `shown`."""
    tokens = Prompts(loaded.tokenizer).tokenise_all(rows, loaded.longest, LONGEST)
    return answer(decoder, loaded, [t.teacher if shown else t.student for t in tokens], longest=LONGEST)


def hits_of(decoder: Any, loaded: LoadedModel, rows: Sequence[Demonstration], shown: bool = False) -> list[bool]:
    """Which of these rows are answered right."""
    texts = answers_of(decoder, loaded, rows, shown)
    return [_right(text, row.answer or "") for text, row in zip(texts, rows, strict=True)]


def share_on(decoder: Any, loaded: LoadedModel, rows: Sequence[Demonstration], shown: bool = False) -> float:
    """Share of these rows that are answered right."""
    return round(statistics.mean(hits_of(decoder, loaded, rows, shown)), 4)


@functools.cache
def known_probes(model: str) -> list[Demonstration]:
    """The probes that this model answers right before anything is taught."""
    loaded = load(model)
    probes = pocket_probes()
    hits = hits_of(decoder_for(loaded.model), loaded, probes)
    return [row for row, hit in zip(probes, hits, strict=True) if hit]


def retention(roles: Roles, model: str = POCKET) -> float:
    """Share of what `model` knew that the student still knows."""
    return share_on(roles.student_decoder, roles.loaded, known_probes(model))


def learn(task: Task) -> Figures:
    """One method on one set: skill and retention. With `size`, of a smaller pocket."""
    model = str(Path(os.environ[POCKETS_AT]) / task["size"]) if "size" in task else POCKET
    parts = data(task["set"], task["seed"])
    loaded = load(model)
    roles = teach(task["method"], loaded, parts.teaching, task["seed"], **task["settings"])
    found = {
        "skill": share_on(roles.student_decoder, loaded, parts.held_out),
        "retention": retention(roles, model),
    }
    if model != POCKET:
        base = decoder_for(loaded.model)
        found["base"] = share_on(base, loaded, parts.held_out)
        found["teacher"] = share_on(base, loaded, parts.held_out, shown=True)
    return found


def tune(task: Task) -> Figures:
    """A method with these settings on part of seed 0's teaching rows, scored on the rest of them; seed 0's held-out
    rows stay unseen. Of the events, on direct questions alone.
    """
    outer = events_split() if task["set"] == "events" else data(task["set"], 0)
    inner = split(outer.teaching, held_out=0.25, seed=0)
    taught = outer.teaching if task["set"] == "events" else inner.teaching
    roles = teach(task["method"], load(POCKET), taught, 0, **task["settings"])
    return {
        "validation": share_on(roles.student_decoder, roles.loaded, inner.held_out),
        "retention": retention(roles),
    }


def events_split() -> Split:
    """Direct questions to teach, indirect ones to ask."""
    rows = read(DATA / "events.jsonl").rows
    direct = tuple(row for row in rows if "events direct" in row.tags)
    return Split(direct, tuple(row for row in rows if "events indirect" in row.tags), ())


def knowledge(task: Task) -> Figures:
    """Events taught by direct questions alone, then asked directly and indirectly.

    strict: of the direct questions, the answer stands there and no other event's does; lenient: the answer stands
    there, or one spelled nearly so; indirect: share of the indirect questions.
    """
    parts = events_split()
    roles = teach(task["method"], load(POCKET), parts.teaching, task["seed"], **task["settings"])
    texts = answers_of(roles.student_decoder, roles.loaded, parts.teaching)
    every = {row.answer or "" for row in parts.teaching}
    strict = [
        _right(text, row.answer or "") and not any(_right(text, other) for other in every - {row.answer})
        for text, row in zip(texts, parts.teaching, strict=True)
    ]
    lenient = [near(text, row.answer or "") for text, row in zip(texts, parts.teaching, strict=True)]
    base = decoder_for(roles.loaded.model)
    return {
        "strict": round(statistics.mean(strict), 4),
        "lenient": round(statistics.mean(lenient), 4),
        "indirect": share_on(roles.student_decoder, roles.loaded, parts.held_out),
        "teacher indirect": share_on(base, roles.loaded, parts.held_out, shown=True),
        "retention": retention(roles),
    }


def near(text: str, wanted: str) -> bool:
    """The answer stands there, or a word that is spelled nearly so."""
    if _right(text, wanted):
        return True
    words = text.replace(".", " ").replace(",", " ").split()
    return any(SequenceMatcher(None, word.casefold(), wanted.casefold()).ratio() >= 0.75 for word in words)


def row_of_skills(task: Task) -> Figures:
    """Skills one after the other, each on the model that has learned the ones before; all measured after each.

    With `keep`, the questions of the skills before are keep rows of the next lesson, and SDFT's teacher is the model
    as it was before any lesson, as `workbench teach --on RUN --keep FILE` has it.

    `skill` has a list by set: its score after each lesson from its own on. `lost` is the most that any set fell from
    its score right after its own lesson to the end.
    """
    seed, loaded = task["seed"], load(POCKET)
    parts = {name: data(name, seed) for name in task["order"]}
    skill: dict[str, list[float]] = {}
    roles: Roles | None = None
    for name in task["order"]:
        loaded = merge(roles) if roles else loaded
        chosen = dict(task["settings"].get(name, {}))
        keep = [row for met in skill for row in as_keep(parts[met].teaching)] if task["keep"] else []
        origin = load(POCKET) if keep and task["method"] == "sdft" else None
        if keep:
            chosen |= KEEPING
        if origin is not None:
            chosen["teacher"] = "original"
        roles = teach(task["method"], loaded, parts[name].teaching, seed, keep, origin, **chosen)
        skill[name] = []
        for met in skill:
            skill[met].append(share_on(roles.student_decoder, loaded, parts[met].held_out))
    assert roles is not None
    return {
        "skill": skill,
        "lost": round(max(scores[0] - scores[-1] for scores in skill.values()), 4),
        "end": round(statistics.mean(scores[-1] for scores in skill.values()), 4),
        "retention": retention(roles),
    }


def merge(roles: Roles) -> LoadedModel:
    """The student as a model of its own, ready for the next lesson; `roles` is used up."""
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(roles, Path(folder) / "adapter")
        return merge_adapter(roles.loaded, Path(folder) / "adapter")


def cost(task: Task) -> Figures:
    """Operations (counted) and seconds (timed) of a step, the median of several after a few that warm up."""
    parts = data(task["set"], task["seed"])
    found: Figures = {}
    for method in ("sdft", "sft"):
        chosen = settings(task["seed"], **{**BUDGET, **task["settings"], "steps": 24})
        roles = make_roles(load(POCKET), chosen.lora, task["seed"])
        steps = METHODS[method](roles, parts.teaching, chosen)
        seconds, operations = [], []
        for step in range(24):
            if step % 2:
                with FlopCounterMode(display=False) as counter:
                    next(steps)
                operations.append(counter.get_total_flops())
            else:
                start = time.perf_counter()
                next(steps)
                seconds.append(time.perf_counter() - start)
        found[f"{method} operations"] = statistics.median(operations[4:])
        found[f"{method} step seconds"] = round(statistics.median(seconds[4:]), 4)
    found["operations ratio"] = round(found["sdft operations"] / found["sft operations"], 3)
    found["time ratio"] = round(found["sdft step seconds"] / found["sft step seconds"], 3)
    return found


def leak(task: Task) -> Figures:
    """SDFT from a teacher that says a preface when it is shown an example; how many of the student's answers have it?

    The bundled teacher never does, so it is first taught to, by SFT on other questions than those asked here.
    """
    seed, loaded = task["seed"], leaky_model()
    parts = data(task["set"], seed)
    roles = teach(task["method"], loaded, parts.teaching, seed, **task["settings"])
    base = decoder_for(loaded.model)

    def leaked(decoder: Any, shown: bool = False) -> float:
        texts = answers_of(decoder, loaded, parts.held_out, shown)
        return round(statistics.mean(text.startswith(PREFACE.split()[0]) for text in texts), 4)

    return {
        "leaked": leaked(roles.student_decoder),
        "teacher leaked": leaked(base, shown=True),
        "base leaked": leaked(base),
        "skill": share_on(roles.student_decoder, loaded, parts.held_out),
    }


@functools.cache
def leaky_model() -> LoadedModel:
    """The pocket, taught to say PREFACE before its answer when, and only when, an example stands in the prompt."""
    loaded = load(POCKET)
    prompts = Prompts(loaded.tokenizer)
    rows: list[Demonstration] = []
    for name in ("pelan", "remedies", "quiz"):
        part = read(DATA / f"{name}.jsonl").rows[:80]
        shown = [prompts.teacher_messages(row)[-1]["content"] for row in part]
        plain = [prompts.student_messages(row)[-1]["content"] for row in part]
        for asked, said in ((shown, True), (plain, False)):
            asked_rows = [Demonstration(text, keep=True) for text in asked]
            texts = answers_of(decoder_for(loaded.model), loaded, asked_rows)
            rows += [
                Demonstration(row.prompt, f"{PREFACE} {text}" if said else text)
                for row, text in zip(asked_rows, texts, strict=True)
            ]
    return merge(teach("sft", loaded, rows, 0, lr=2e-3, steps=150))


def lookalike(task: Task) -> Figures:
    """Two look-alike languages in a row, without and with keep rows: as benchmarks/lesson.py has it."""
    from lesson import sequence_run

    return dict(sequence_run(task["seed"]))


KINDS: dict[str, Callable[[Task], Figures]] = {
    "learn": learn,
    "tune": tune,
    "knowledge": knowledge,
    "in a row": row_of_skills,
    "cost": cost,
    "leak": leak,
    "look-alike": lookalike,
}


def perform(task: Task) -> Figures:
    """The figures of one task, with its seconds."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    return KINDS[task["kind"]](task) | {"seconds": round(time.perf_counter() - start, 1)}
