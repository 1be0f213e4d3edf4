"""workbench app, or plain `workbench`: the workbench in the browser."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from workbench.runs.folder import default_runs


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860 on)")
    parser.add_argument("--runs", type=Path, default=None, metavar="DIR", help="folder of runs (default: ./runs)")
    parser.add_argument("--model", default="pocket", help="pocket (bundled), a Hugging Face id, or a folder")
    parser.add_argument("--auth", metavar="NAME:PASSWORD", help="who may enter; needed with --share or another --host")
    parser.add_argument("--share", action="store_true", help="make a public address, for a week at most")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Serve until Ctrl-C. The address is said on standard output, but with `--json` on standard error."""
    from workbench.app.server import Options, serve

    runs: Path = options.runs or default_runs()
    with redirect_stdout(sys.stderr) if options.json else nullcontext():  # the object alone is for standard output
        serve(Options(runs, options.host, options.port, options.model, options.auth, options.share))
    return {"runs": str(runs.expanduser().absolute())}
