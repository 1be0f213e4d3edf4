"""workbench plan MODEL: whether a model can be taught in the memory of a card, and how. Nothing is loaded."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from workbench import hub
from workbench.commands import screen
from workbench.commands.options import add_settings, settings_from
from workbench.errors import InputError
from workbench.memory import BYTES, count, gigabytes, machine, read_shape
from workbench.planning import KNOWN, fit, refusal
from workbench.pocket import WEIGHTS


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="pocket (bundled), a Hugging Face id, or a folder")
    parser.add_argument("--gpu-memory", type=float, metavar="GB", help="memory of the card (default: this machine's)")
    parser.add_argument(
        "--precision", choices=tuple(BYTES), help="how weights are kept (default: 4-bit on a card, fp32 without)"
    )
    parser.add_argument("--prompt-tokens", type=int, default=64, help="tokens of a usual prompt (default: 64)")
    parser.add_argument(
        "--shown-tokens", type=int, default=256, help="tokens of a prompt with its demonstration (default: 256)"
    )
    add_settings(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Read the config, do the arithmetic, show it."""
    if options.gpu_memory is not None and not 0 < options.gpu_memory < 10_000:
        raise InputError(f"--gpu-memory is {options.gpu_memory:g}.", "Give it in GB, such as 8 or 24.")
    if min(options.prompt_tokens, options.shown_tokens) < 1:
        raise InputError("A prompt has at least one token.", "Give --prompt-tokens and --shown-tokens 1 or more.")
    config, where = config_of(options.model)
    shape, settings = read_shape(config), settings_from(options, options.model == "pocket")
    has = machine()
    room = has.free if options.gpu_memory is None else options.gpu_memory * 1e9
    dtype = options.precision or ("4-bit" if options.gpu_memory is not None or has.gpu else "fp32")
    if options.model == "pocket" and options.precision is None:
        dtype = "fp32"
    lengths = {"question": options.prompt_tokens, "shown": options.shown_tokens}
    found = fit(shape, dtype, settings, room, **lengths)
    if found is None:
        raise refusal(shape, dtype, settings, room, **lengths)
    screen.heading(f"{options.model} in {dtype}, in {gigabytes(room)}")
    screen.say(f"  {count(shape.parameters)} weights; {where}.")
    for part in found.need.parts:
        screen.say(f"  {gigabytes(part.size):>9}  {part.name}: {part.why}")
    screen.say(f"  {gigabytes(found.need.teaching):>9}  at the highest moment of a step (a prediction)")
    batch, work = settings.optim.batch, found.work
    screen.say(
        f"  Of the {batch} answers of a step, {work.at_once or batch} are sampled at a time and "
        f"{work.micro_batch or batch} learned from at a time; activations are "
        f"{'computed again' if work.checkpointing else 'kept'}. Where it is measured, up to {work.asked} questions are "
        "answered at a time."
    )
    return {
        "model": options.model,
        "precision": dtype,
        "memory": room,
        "fits": True,
        "micro_batch": work.micro_batch or batch,
        "at_once": work.at_once or batch,
        "checkpointing": work.checkpointing,
        "questions": work.asked,
        "predicted": round(found.need.teaching),
        "asking": round(found.need.asking),
        "parts": {part.name: round(part.size) for part in found.need.parts},
    }


def config_of(name: str) -> tuple[Any, str]:
    """A model's config.json and where it was found.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    folder = WEIGHTS if name == "pocket" else Path(name).expanduser()
    if folder.is_dir():
        return _read(name, folder / "config.json"), "its config.json is in this folder"
    try:
        path = hub.config(name) or hub.held_config(name)
    except InputError:
        if name not in KNOWN:
            raise
        path = None
    if path is not None:
        return _read(name, path), "by its config.json on the hub"
    if name in KNOWN:
        return KNOWN[name], "by its published config.json, which comes with the workbench"
    raise InputError(
        f"The config.json of {name} cannot be had: the hub does not answer.",
        "Check the name and the network; without one, name a folder or " + ", ".join(KNOWN) + ".",
    )


def _read(name: str, path: Path) -> Any:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{name} has no config.json that can be read: {error}.", "Name a model's folder.") from error
    if not isinstance(values, dict):
        raise InputError(f"{name}'s config.json is not an object.", "Download the model again.")
    return values
