"""workbench recipe NAME: a task of the paper at full size, by SFT and by SDFT, scored as the paper does."""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.commands import screen
from workbench.commands.options import add_model, add_runs, add_settings, given_settings, runs_folder
from workbench.errors import InputError
from workbench.recipes import RECIPES, Fetched, Recipe, fetch
from workbench.recipes.retention import check_harness
from workbench.runs.folder import check_name

MODEL = "Qwen/Qwen3-4B-Instruct-2507"
"""The model that the recipes are made for; the paper's is Qwen2.5-7B-Instruct."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", nargs="?", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument(
        "--list", action="store_true", help="say what each recipe is, its size and licence; fetch nothing"
    )
    add_model(parser)
    parser.set_defaults(model=MODEL)
    add_runs(parser)
    parser.add_argument(
        "--method", choices=("both", "sdft", "sft"), default="both", help="how to teach (default: both)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="read the published files from here; no network")
    parser.add_argument("--name", help="the runs' name, before -sft and -sdft (default: the recipe's)")
    parser.add_argument("--rows", type=int, metavar="N", help="teach only N rows, drawn with the seed")
    parser.add_argument("--test-rows", type=int, metavar="N", help="test with only N rows, drawn with the seed")
    parser.add_argument(
        "--lm-eval", action="store_true", help="measure retention on the paper's six tasks (extra lm-eval)"
    )
    parser.add_argument(
        "--lm-eval-limit", type=int, metavar="N", help="most questions of each of those tasks, for a try"
    )
    parser.add_argument(
        "--run-model-code",
        action="store_true",
        help="let HumanEval run the programs that the model writes, on this machine; without it that task is left out",
    )
    add_settings(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """List, or fetch, teach, score."""
    if options.list:
        return _list()
    recipe = _chosen(options.recipe)
    runs, name = runs_folder(options), check_name(options.name or recipe.name)
    for flag in ("rows", "test_rows", "lm_eval_limit"):
        if (value := getattr(options, flag)) is not None and value < 1:
            raise InputError(f"--{flag.replace('_', '-')} is {value}.", "Give it 1 or more.")
    if options.lm_eval:
        check_harness()
    given = given_settings(options)
    # Wrong values are refused before anything is fetched.
    seed = recipe.settings("sdft", 1, given).optim.seed
    fetched = _fewer(fetch(recipe, options.data, seed), options, seed)
    # Torch is imported from here on: what is wrong so far is said at once.
    from workbench.commands.recipe_runs import teach_and_score

    return teach_and_score(options, recipe, fetched, runs, name, given)


def _chosen(name: str | None) -> Recipe:
    if name is None:
        raise InputError("No recipe is named.", f"Name one of {', '.join(RECIPES)}; see: workbench recipe --list.")
    if name not in RECIPES:
        raise InputError(f"There is no recipe {name!r}.", f"The recipes are {', '.join(RECIPES)}.")
    return RECIPES[name]


def _list() -> dict[str, Any]:
    """What each recipe is. Nothing is fetched."""
    listed = []
    for recipe in RECIPES.values():
        places = [
            {"from": s.place, "file": s.file, "revision": s.revision} for s in recipe.sources.values() if not s.optional
        ]
        screen.heading(f"{recipe.name}: {recipe.title}")
        screen.say(f"  {recipe.data}.")
        screen.say(f"  Size: {recipe.size}. Licence: {recipe.licence}.")
        for place in places:
            pinned = (
                f"commit {place['revision']}" if place["revision"] else "no commit pinned; the run records what it read"
            )
            screen.say(f"  From {place['from']}, {place['file']} ({pinned}).")
        screen.say(f"  Not public: {recipe.missing}")
        listed.append(
            {key: getattr(recipe, key) for key in ("name", "title", "data", "size", "licence", "missing", "paper")}
            | {"sources": places}
        )
    return {"recipes": listed}


def _fewer(fetched: Fetched, options: argparse.Namespace, seed: int) -> Fetched:
    """Only so many rows as were asked for."""
    rows = fetched.rows
    draw = random.Random(seed)
    if options.rows is not None and options.rows < len(rows.teaching):
        rows = replace(rows, teaching=draw.sample(rows.teaching, options.rows))
    if options.test_rows is not None and options.test_rows < len(rows.test):
        rows = replace(rows, test=draw.sample(rows.test, options.test_rows))
    if rows is fetched.rows:
        return fetched
    note = f"Only {len(rows.teaching)} rows are taught and {len(rows.test)} asked: not comparable with the paper."
    few = {"from": "--rows, --test-rows", "commit": None, "rows": len(rows.teaching) + len(rows.test)}
    few["sha256"] = f"{len(rows.teaching)} {len(rows.test)}"
    return Fetched(replace(rows, notes=(*rows.notes, note)), {**fetched.origins, "chosen": few})
