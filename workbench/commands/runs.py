"""workbench runs: all runs of a folder."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands import screen
from workbench.commands.options import add_runs, runs_folder
from workbench.runs.folder import list_runs


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_runs(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """List them, oldest first."""
    folder = runs_folder(options)
    found = [run.summary() for run in list_runs(folder)]
    if not found:
        screen.say(f"There is no run in {folder} yet. Try: workbench teach zorbic")
    else:
        rows = [
            (
                r["run"],
                r["state"],
                r["method"] or "-",
                r["model"] or "-",
                "-" if r["steps"] is None else f"{r['step']}/{r['steps']}",
                _share(r["skill"]),
                _share(r["retention"]) + (f" since {r['on']}" if r["on"] and r["retention"] is not None else ""),
                _minute(r["started"]),
            )
            for r in found
        ]
        screen.table("Runs", ("run", "state", "method", "model", "step", "skill", "kept", "started (UTC)"), rows)
        if any(r["state"] == "damaged" for r in found):
            screen.say(f"Damaged runs cannot be read: restore their folders in {folder} from a backup, or delete them.")
    return {"runs": found}


def _minute(started: str | None) -> str:
    """`2026-11-25 02:47`, in the time zone in which it was written down (UTC)."""
    return "-" if started is None else started[:16].replace("T", " ")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
