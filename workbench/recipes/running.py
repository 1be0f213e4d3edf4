"""A recipe's runs: begun or found again, and scored on the test rows once they are at their end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.evaluation import after_thoughts, answer, get_scorer, measure
from workbench.events import Evaluated, Measure
from workbench.execution import Execution
from workbench.models import LoadedModel
from workbench.prompts import Prompts
from workbench.recipes.fetching import Fetched
from workbench.recipes.judging import in_parts, judge_all
from workbench.recipes.recipe import Recipe
from workbench.roles import Roles
from workbench.runs import Run
from workbench.runs.checkpoints import all_steps
from workbench.runs.folder import clear_disk_errors
from workbench.runs.session import Request, begin, student_at
from workbench.settings import Settings
from workbench.training.batches import make_prompts

SCORES_FILE = "recipe.json"
"""In a run's folder: what it was scored on and came to."""

_AT_ONCE = 16
"""Test questions answered together where the run's plan does not say."""


def request(
    recipe: Recipe,
    fetched: Fetched,
    method: str,
    settings: Settings,
    loaded: LoadedModel,
    name: str,
    probes: Sequence[Demonstration],
) -> Request:
    """What is asked for; rows that do not fit this model are left out and counted in the notes."""
    prompts = make_prompts(loaded.tokenizer, settings)
    room = settings.rollout.max_new_tokens
    teaching, lost = fitting(fetched.rows.teaching, prompts, loaded.longest, room)
    held_out, lost_too = fitting(fetched.rows.validation, prompts, loaded.longest, room)
    notes = list(fetched.rows.notes)
    if lost + lost_too:
        why = "too long, with its special tokens, or refused by its chat template"
        notes.append(f"{lost + lost_too} rows that this model cannot read ({why}) were left out.")
    if not teaching:
        raise InputError(
            f"None of {len(fetched.rows.teaching)} rows fits a model that reads {loaded.longest} tokens, of which "
            f"{room} are kept for the answer.",
            "Choose a model that reads more, or lower --max-new-tokens.",
        )
    every = max(1, settings.optim.steps // 8)
    return Request(
        name=name,
        method=method,
        settings=settings,
        teaching=teaching,
        held_out=held_out,
        probes=probes,
        scorer=recipe.validated_by,
        evaluate_every=every,
        save_every=every,
        source=f"recipe {recipe.name}, data {fetched.mark}",
        notes=tuple(notes),
    )


def fitting(rows: Sequence[Demonstration], prompts: Prompts, limit: int, room: int) -> tuple[list[Demonstration], int]:
    """Rows that the model can read, and how many it cannot."""
    kept = []
    for row in rows:
        try:
            prompts.tokenise_all([row], limit, room)
        except InputError:
            continue
        kept.append(row)
    return kept, len(rows) - len(kept)


def find_or_begin(wanted: Request, loaded: LoadedModel, runs: Path) -> Run:
    """The run of that name if it is the same one, to go on with; else a new one.

    Raises:
        InputError: there is a run of that name with other data, model or settings.
    """
    run = Run(runs / wanted.name)
    if not run.path.exists():
        return begin(wanted, loaded, runs)
    config = run.config
    now = {
        "method": wanted.method,
        "data": wanted.source,
        "model": loaded.name,
        "revision": loaded.revision,
        "settings": wanted.settings.to_dict(),
    }
    then = {**{key: config.get(key) for key in now}, "data": config.get("source")}
    other = [key for key in now if now[key] != then[key]]
    if other:
        raise InputError(
            f"There is a run {wanted.name} in {runs} already, with other {', '.join(other)}.",
            "Give this one another name with --name, or give the same command to go on with that run.",
        )
    return run


def best_step(run: Run) -> int:
    """The step whose checkpoint did best on the validation rows, the earliest of equals, as the paper chooses it."""
    there = set(all_steps(run.checkpoints))
    measured = [e for e in run.log.read() if isinstance(e, Evaluated) and e.step in there]
    skilled = [(e.skill.value, -e.step) for e in measured if e.skill is not None]
    return -max(skilled)[1] if skilled else max(there)


def refuse_unaskable(fetched: Fetched, loaded: LoadedModel, settings: Settings) -> None:
    """Refuse a test that could not be asked once everything is taught. Raises InputError: a row does not fit."""
    prompts = make_prompts(loaded.tokenizer, settings)
    for rows in (fetched.rows.test, fetched.rows.other):
        prompts.tokenise_all(rows, loaded.longest, settings.rollout.max_new_tokens)


@dataclass(frozen=True, slots=True)
class Scored:
    """One model's answers to the test rows, and its shares by score."""

    answers: list[str]
    scores: dict[str, Measure]


def score(recipe: Recipe, fetched: Fetched, roles: Roles, settings: Settings, taught: bool, at_once: int) -> Scored:
    """The test, answered greedily by the student or the base.

    Raises:
        InputError: a test row does not fit the model: the test is asked whole or not at all.
    """
    prompts = make_prompts(roles.loaded.tokenizer, settings)
    longest = settings.rollout.max_new_tokens
    at_once = at_once or _AT_ONCE
    decoder = roles.student_decoder if taught else roles.base_decoder

    def sit(rows: Sequence[Demonstration]) -> list[str]:
        tokens = prompts.tokenise_all(rows, roles.loaded.longest, longest)
        return in_parts(
            lambda part: answer(decoder, roles.loaded, part, longest=longest), [t.student for t in tokens], at_once
        )

    rows, scores = fetched.rows.test, {}
    answers = sit(rows)
    for name, scorer in recipe.scores.items():
        if scorer == "judge":
            hits = judge_all(roles, prompts, rows, answers, at_once)
        else:
            right = after_thoughts(get_scorer(scorer), roles.loaded.tokenizer)
            hits = [right(text, row.answer or "") for text, row in zip(answers, rows, strict=True)]
        scores[name] = measure(hits)
    if other := fetched.rows.other:
        right = after_thoughts(get_scorer(recipe.validated_by), roles.loaded.tokenizer)
        texts = sit(other)
        scores["ood"] = measure([right(text, row.answer or "") for text, row in zip(texts, other, strict=True)])
        answers += texts
    return Scored(answers, scores)


def score_run(
    recipe: Recipe, fetched: Fetched, run: Run, loaded: LoadedModel, base: Scored | None = None
) -> tuple[Scored, Scored, int]:
    """Base and student of a finished run on the test rows, and the step of that student.

    What was scored before is read from the run's folder. `base` is the base's, if another run has asked it.
    """
    step = best_step(run)
    kept = _kept(run, fetched, step)
    if "base" in kept:
        base = _scored(kept["base"])
        if "student" in kept:
            return base, _scored(kept["student"]), step
    settings = Settings.from_dict(run.config["settings"])
    work = Execution.from_dict(run.config.get("execution") or {})
    at_once = min(work.at_once or _AT_ONCE, work.questions)
    roles = student_at(run, step, loaded)
    made = {"recipe": recipe.name, "mark": fetched.mark, "data": fetched.origins, "step": step}
    if base is None:
        base = score(recipe, fetched, roles, settings, False, at_once)
        save_scores(run, made | {"base": asdict(base)})  # the student's turn may be interrupted
    student = score(recipe, fetched, roles, settings, True, at_once)
    save_scores(run, made | {"base": asdict(base), "student": asdict(student)})
    return base, student, step


def read_scores(run: Run) -> dict[str, Any]:
    """What the run's `recipe.json` holds; nothing where there is none or it cannot be read."""
    try:
        found = json.loads((run.path / SCORES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def save_scores(run: Run, values: Mapping[str, Any]) -> None:
    """Write `recipe.json` whole: a reader finds the old one or the new one."""
    making = run.path / f".{SCORES_FILE}"
    with clear_disk_errors(run.path):
        making.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        making.replace(run.path / SCORES_FILE)


def _kept(run: Run, fetched: Fetched, step: int) -> dict[str, Any]:
    found = read_scores(run)
    same = found.get("mark") == fetched.mark and found.get("step") == step
    return found if same else {}


def _scored(values: Mapping[str, Any]) -> Scored:
    return Scored(list(values["answers"]), {k: Measure(**v) for k, v in values["scores"].items()})
