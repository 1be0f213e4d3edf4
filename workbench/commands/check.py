"""workbench check DEMOS: the teacher check, without any training."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.options import add_data, add_model, add_scorer, add_settings, read_data
from workbench.errors import InputError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_data(parser)
    add_model(parser)
    parser.add_argument("--rows", type=int, default=100, help="most rows to ask (default: 100)")
    add_scorer(parser)
    add_settings(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Ask the base without and with the demonstration."""
    if options.rows < 1:
        raise InputError(f"--rows is {options.rows}.", "Give it 1 or more.")
    reading = read_data(options)
    # Torch is imported from here on: what is wrong so far is said at once.
    from workbench.commands.checking import ask

    return ask(options, reading)
