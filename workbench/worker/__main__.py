"""python -m workbench.worker --runs DIR [--model NAME]: the process that owns the model; see service.py."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Read commands from standard input until it ends."""
    parser = argparse.ArgumentParser(prog="python -m workbench.worker", description="Owns the model; see service.py.")
    parser.add_argument("--runs", type=Path, required=True, help="folder of runs")
    parser.add_argument("--model", default="pocket", help="pocket (bundled), a Hugging Face id, or a folder")
    parser.add_argument("--revision", help="branch, tag or commit of a Hugging Face model")
    parser.add_argument("--precision", default="auto", help="precision of the weights")
    options = parser.parse_args()
    # Replies have standard output to themselves: what a library prints goes to the error output.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    from workbench.worker.service import Service  # torch takes seconds, and the flags are checked first

    service = Service(options.runs, output)
    signal.signal(signal.SIGTERM, lambda number, frame: service.end())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = {"model": options.model, "revision": options.revision, "precision": options.precision}
    service.run(sys.stdin.buffer, first)


if __name__ == "__main__":
    main()
    # Not through the interpreter's end: a reader thread may be waiting on a pipe that nobody closes.
    sys.stderr.flush()
    os._exit(0)
