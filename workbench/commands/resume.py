"""workbench resume RUN: go on from the last checkpoint."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands import screen
from workbench.commands.conduct import conduct, follow_up, result, resumable, show_result
from workbench.commands.options import add_runs, runs_folder
from workbench.runs import open_run
from workbench.training.together import crew


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run", metavar="RUN", help="name or folder of a run")
    add_runs(parser)


def run(options: argparse.Namespace) -> dict[str, Any] | None:
    """Go on; a finished run is only shown."""
    found = open_run(options.run, runs_folder(options))
    with resumable(found):
        state: dict[str, Any] = crew().told(result(found))
        if state["finished"]:
            screen.say(f"Run {found.name} has already reached its last step.")
        else:
            state = conduct(found)
        if not crew().first:
            return None
        show_result(found, state)
        follow_up(found, state)
    return state
