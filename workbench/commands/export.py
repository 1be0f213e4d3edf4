"""workbench export RUN --to KIND DEST."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.commands import screen
from workbench.commands.options import add_runs, runs_folder
from workbench.export import KINDS, export_run
from workbench.runs import open_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run", metavar="RUN", help="name or folder of a finished run")
    parser.add_argument("destination", metavar="DEST", type=Path, help="a new folder")
    parser.add_argument("--to", dest="kind", choices=tuple(KINDS), required=True, help="what to write")
    add_runs(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Write the folder."""
    found = open_run(options.run, runs_folder(options))
    written = export_run(found, options.kind, options.destination.expanduser().absolute())
    files = sorted(str(file.relative_to(written)) for file in written.rglob("*") if file.is_file())
    screen.say(f"Wrote {written}: {', '.join(files)}")
    return {"run": str(found.path), "to": options.kind, "destination": str(written), "files": files}
