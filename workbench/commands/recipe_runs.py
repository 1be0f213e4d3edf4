"""The part of `workbench recipe` that needs the model: the runs, their scores, and the tables."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.commands import screen
from workbench.commands.conduct import conduct, resumable
from workbench.commands.options import load_model
from workbench.demonstrations import read_questions
from workbench.errors import InputError
from workbench.evaluation import bundled_probes
from workbench.models import LoadedModel
from workbench.recipes import Fetched, Recipe
from workbench.recipes.recipe import BASE_PRIOR
from workbench.recipes.retention import CODE, headlines, measure_tasks
from workbench.recipes.running import (
    Scored,
    find_or_begin,
    read_scores,
    refuse_unaskable,
    request,
    save_scores,
    score_run,
)
from workbench.runs import Run
from workbench.runs.session import student_at
from workbench.training.together import crew


def teach_and_score(
    options: argparse.Namespace,
    recipe: Recipe,
    fetched: Fetched,
    runs: Path,
    name: str,
    given: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Begin the runs or go on with them, ask the test, show the result beside the paper's."""
    if not crew().alone:
        raise InputError("`workbench recipe` works in one process.", "Start it without `accelerate launch`.")
    loaded = load_model(options)
    _introduce(recipe, fetched, loaded)
    probes = read_questions(bundled_probes(loaded.is_pocket), need_answer=True).rows
    methods = ("sft", "sdft") if options.method == "both" else (options.method,)
    # All are checked, and their folders made, before the first of them is taught for hours.
    wished = {method: recipe.settings(method, len(fetched.rows.teaching), given) for method in methods}
    refuse_unaskable(fetched, loaded, wished[methods[0]])  # the methods differ in steps alone
    made: dict[str, Run] = {}
    for method, settings in wished.items():
        wanted = request(recipe, fetched, method, settings, loaded, f"{name}-{method}", probes)
        made[method] = find_or_begin(wanted, loaded, runs)
    result: dict[str, Any] = {
        "recipe": recipe.name,
        "model": loaded.name,
        "data": fetched.origins,
        "finished": True,
        "rows": {"teaching": len(fetched.rows.teaching), "test": len(fetched.rows.test)},
        "methods": {},
    }
    base: Scored | None = None
    prior: dict[str, Any] | None = None
    for method, taught in made.items():
        with resumable(taught):
            outcome = conduct(taught, loaded, quiet=len(result["methods"]) > 0)
            result["methods"][method] = {key: outcome[key] for key in ("run", "steps", "seconds", "finished")}
            if not outcome["finished"]:
                result["finished"] = False
                screen.say(f"Stopped at step {outcome['steps']}. Give the same command again to go on.")
                return result
            screen.say(f"Asking {len(fetched.rows.test)} test questions ...")
            base, student, step = score_run(recipe, fetched, taught, loaded, base)
            result["methods"][method] |= {"checkpoint": step, "scores": _shares(student)}
            if options.lm_eval:
                figures = _retention(taught, loaded, step, options, prior)
                prior, result["methods"][method]["lm_eval"] = figures["base"], figures["student"]
    assert base is not None
    result["base"] = {"scores": _shares(base)}
    result["paper"] = recipe.paper
    if options.lm_eval:
        result["base"]["lm_eval"] = prior
    _show(recipe, result)
    return result


def _introduce(recipe: Recipe, fetched: Fetched, loaded: LoadedModel) -> None:
    rows = fetched.rows
    screen.heading(recipe.title)
    screen.say(
        f"  {len(rows.teaching)} rows to teach, {len(rows.validation)} to choose the checkpoint by, {len(rows.test)} "
        f"to test with; the model is `{loaded.name}` with a LoRA adapter (the paper teaches all weights of a 7B model)."
    )
    for note in rows.notes:
        screen.say(f"  {note}")
    screen.say(f"  {recipe.missing}")


def _retention(
    run: Run, loaded: LoadedModel, step: int, options: argparse.Namespace, base: dict[str, Any] | None
) -> dict[str, Any]:
    """The harness's figures for base and student, kept in the run; what is there already is not measured again.

    Args:
        base: the base's figures, if another run of this command has them.
    """
    how = {"limit": options.lm_eval_limit, "run_code": options.run_model_code}
    kept = read_scores(run)
    figures: dict[str, Any] = kept.get("lm_eval") or {}
    if figures.get("how") != how:
        figures = {"how": how}
    if "student" not in figures:
        if not options.run_model_code:
            screen.say(f"{CODE} is left out: it runs programs that the model writes (--run-model-code allows it).")
        screen.say("Asking the paper's six tasks; this takes hours on a large model.")
        limit, run_code = options.lm_eval_limit, options.run_model_code
        if "base" not in figures:
            figures["base"] = base or measure_tasks(loaded, limit=limit, run_code=run_code)
            save_scores(run, {**kept, "lm_eval": figures})  # the student's turn may be interrupted
        student = student_at(run, step, loaded).student
        figures["student"] = measure_tasks(loaded, student, limit=limit, run_code=run_code)
        save_scores(run, {**kept, "lm_eval": figures})
    return figures


def _shares(scored: Scored) -> dict[str, Any]:
    return {
        name: {"value": round(m.value, 4), "n": m.n, "low": round(m.low, 4), "high": round(m.high, 4)}
        for name, m in scored.scores.items()
    }


def _show(recipe: Recipe, result: dict[str, Any]) -> None:
    columns = ["", "before", *(f"after {m.upper()}" for m in result["methods"]), "paper (7B, all weights)"]
    models = [result["base"], *result["methods"].values()]
    rows = []
    for name in result["base"]["scores"]:
        cells = [f"{m['scores'][name]['value']:.1%}\n{_bounds(m['scores'][name])}" for m in models]
        told = recipe.paper.get(name)
        paper = "-" if told is None else f"{told['base']:.1f} / SFT {told['sft']:.1f} / SDFT {told['sdft']:.1f}"
        rows.append([f"{name}, of {result['base']['scores'][name]['n']}\n95% interval", *cells, paper])
    screen.table(recipe.title, columns, rows)
    if "lm_eval" in result["base"]:
        figures = [headlines(m["lm_eval"]) for m in models]
        screen.table(
            "Retention (lm-evaluation-harness)",
            [*columns[:-1], "paper, before"],
            [[task, *(_share(f[task]) for f in figures), f"{BASE_PRIOR[task]:.1f}"] for task in figures[0]],
        )


def _bounds(score: dict[str, Any]) -> str:
    return f"{score['low'] * 100:.0f}-{score['high'] * 100:.0f}%"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
