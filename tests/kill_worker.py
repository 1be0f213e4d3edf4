"""A process that has everything imported and forks a child for each run folder named on its standard input.

Each child teaches the run from where it stands. Nothing is computed before the fork, so that the children are as
fresh as a process started by hand, without the seconds that imports take.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import torch

from workbench.runs import Run
from workbench.runs.session import Session


def teach(folder: str) -> None:
    """Teach one run to its end."""
    for _ in Session(Run(Path(folder))).teach():
        pass


def main() -> None:
    """Answer each line with the child's process id, and with its exit status when it has ended."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                teach(line.strip())
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
