"""The part of `workbench teach` that needs the model: the run is begun, taught and shown."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.adapters import merge_adapter, read_adapter
from workbench.commands import screen
from workbench.commands.conduct import conduct, follow_up, resumable, show_answers, show_result
from workbench.commands.options import (
    downloading,
    load_model,
    read_probes,
    settings_from,
)
from workbench.demonstrations import Reading, read_questions, split
from workbench.demonstrations.splitting import contradiction
from workbench.errors import InputError
from workbench.evaluation import bundled_probes, refuse_unscorable
from workbench.execution import Execution
from workbench.models import POCKET, LoadedModel, full_name
from workbench.runs import Run, free_name, open_run
from workbench.runs.session import Request, begin, load_base
from workbench.settings import Settings, own_defaults
from workbench.training.batches import refuse_unreadable, refuse_unteachable
from workbench.training.sft import refuse_lacking
from workbench.training.together import crew


def teach(options: argparse.Namespace, reading: Reading, folder: Path) -> dict[str, Any] | None:
    """Begin the run, teach it, show what came of it. Of several processes the first alone has something to say.

    Args:
        reading: the demonstrations.
        folder: of runs.
    """
    earlier = None if options.on is None else _earlier(options, folder)
    name = options.model if earlier is None else str(earlier.config["model"])
    settings = settings_from(options, name == POCKET, earlier is not None)
    # Everything that can be refused without the model is refused before it is loaded.
    request = _request(options, reading, settings, name, folder, earlier)
    screen.console.quiet = not crew().first
    loaded = _load(options, earlier)
    refuse_unreadable(reading.rows, loaded, settings)
    _introduce(request, loaded)
    made = _begin(request, loaded, folder)
    with resumable(made):
        result = conduct(made, loaded)
        if options.beside_sft and result["finished"]:
            result["beside"] = _beside(request, loaded, folder, made)
        if not crew().first:
            return None
        show_result(made, result)
        if "beside" in result:
            screen.say("SFT ran with the settings of SDFT; with settings that are chosen for it, it can do better.")
        if result["finished"]:
            show_answers(made)
        follow_up(made, result)
    return {key: result[key] for key in _KEYS if key in result}


_KEYS = ("run", "method", "model", "steps", "seconds", "skill", "retention", "finished", "beside")


def _earlier(options: argparse.Namespace, folder: Path) -> Run:
    """The run to go on from; its model is this run's too."""
    earlier = open_run(options.on, folder)
    name = earlier.config["model"]
    if options.model != POCKET and full_name(options.model) != name:
        raise InputError(
            f"Run {earlier.name} was taught on {name}, not on {options.model}.",
            f"Leave --model out, or use {name}.",
        )
    pinned = earlier.config.get("revision")
    if options.revision and options.revision != pinned:
        at = f" at revision {pinned}" if pinned else ""
        raise InputError(
            f"Run {earlier.name} was taught on {name}{at}, and what goes on from it is too; --revision is "
            f"{options.revision}.",
            "Leave --revision out.",
        )
    if not earlier.adapter.is_dir():
        raise InputError(f"Run {earlier.name} is not finished.", f"First: workbench resume {earlier.name}.")
    read_adapter(earlier.adapter)
    return earlier


def _load(options: argparse.Namespace, earlier: Run | None) -> LoadedModel:
    if earlier is None:
        return load_model(options)
    asked = None if options.precision == "auto" else options.precision
    with downloading(str(earlier.config["model"])) as download:
        base = load_base(earlier, asked, **download)
    return merge_adapter(base, earlier.adapter)


def _request(
    options: argparse.Namespace,
    reading: Reading,
    settings: Settings,
    model: str,
    folder: Path,
    earlier: Run | None,
) -> Request:
    parts = split(reading.rows, held_out=options.held_out, seed=settings.optim.seed)
    keep = [*parts.keep, *(row for file in options.keep for row in read_questions(Path(file)).rows)]
    probes = read_probes(options.probes or str(bundled_probes(model == POCKET)))
    assert probes is not None
    refuse_unscorable(reading.rows, options.scorer)
    if options.beside_sft or options.method == "sft":
        refuse_lacking(parts.teaching)
    refuse_unteachable(parts.teaching, keep, settings)
    kept = [row.to_keep() for row in keep]
    pulled = contradiction([*parts.teaching, *parts.held_out, *kept])
    stem = Path(options.demonstrations).stem + ("" if options.method == "sdft" else f"-{options.method}")
    return Request(
        name=options.name or free_name(folder, stem),
        method=options.method,
        settings=settings,
        teaching=parts.teaching,
        held_out=parts.held_out,
        keep=kept,
        probes=probes.rows,
        scorer=options.scorer,
        evaluate_every=options.evaluate_every,
        save_every=options.save_every,
        source=str(options.demonstrations),
        on=None if earlier is None else earlier.name,
        before=None if earlier is None else earlier.adapter,
        notes=tuple(filter(None, [*(note for note in reading.notes if note != contradiction(reading.rows)), pulled])),
        execution=_execution(options),
    )


def _execution(options: argparse.Namespace) -> Execution | None:
    """What the flags say of how many at a time; None if they say nothing, so that it is worked out."""
    if options.micro_batch is None and options.at_once is None and options.checkpointing is None:
        return None
    return Execution(options.micro_batch or 0, options.at_once or 0, bool(options.checkpointing))


def _introduce(request: Request, loaded: LoadedModel) -> None:
    optim = request.settings.optim
    method = "self-distillation (SDFT)" if request.method == "sdft" else "supervised fine-tuning (SFT)"
    screen.heading("What is about to happen")
    screen.say(
        f"  The model `{loaded.name}` will be taught by {method} from {len(request.teaching)} demonstrations of "
        f"{request.source}, in {optim.steps} steps of {optim.batch} answers."
    )
    if request.method == "sdft":
        screen.say(
            "  In each step the model answers some of the questions itself (student); the same model, shown the "
            "demonstration (teacher), says at each word what it would have said; the student moves towards that."
        )
    screen.say(
        f"  {len(request.held_out)} other rows are kept back to test what it learned; {len(request.probes)} "
        f"questions on other things test what it forgets."
    )
    if request.keep:
        screen.say(f"  {len(request.keep)} keep rows: questions whose answers should stay as they are.")
    if request.on:
        screen.say(
            f"  It goes on from what run {request.on} has taught.{_usual_on(request.settings, loaded.is_pocket)}"
        )
    for note in request.notes:
        screen.say(f"  {note}")


def _usual_on(settings: Settings, pocket: bool) -> str:
    """Which settings are others only because the run goes on from another; nobody has typed them."""
    on, first, used = own_defaults(pocket, True), own_defaults(pocket), settings.to_dict()
    changed = [
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float | int) else f"{name} {value}"
        for group, values in on.items()
        for name, value in values.items()
        if first.get(group, {}).get(name) != value and used[group][name] == value
    ]
    return f" A second lesson is usually taught otherwise than a first: {', '.join(changed)}." if changed else ""


def _begin(request: Request, loaded: LoadedModel, folder: Path) -> Run:
    """Of several processes the first makes the folder; the others take the steps with it and write nothing."""
    return Run(crew().told(begin(request, loaded, folder).path if crew().first else None))


def _beside(request: Request, loaded: LoadedModel, folder: Path, first: Run) -> dict[str, Any]:
    """The same data, batches, adapter and schedule, by SFT."""
    screen.heading("The same by supervised fine-tuning (SFT)")
    made = _begin(replace(request, method="sft", name=free_name(folder, f"{first.name}-sft")), loaded, folder)
    with resumable(made):
        return conduct(made, loaded, quiet=True)
