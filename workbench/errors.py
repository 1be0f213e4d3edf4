"""What can go wrong, as a tree. Every message says what happened and what to do next.

WorkbenchError            exit status 1
├── InputError            exit status 2: a file, row, column, setting or model that the user gave
└── RunError              exit status 1: the disk, the run folder or a checkpoint
"""

from __future__ import annotations


class WorkbenchError(Exception):
    """A failure to be shown to a person as it stands, without a trace back.

    Args:
        problem: what happened, with the numbers, the row and the column.
        advice: what to do next.
    """

    exit_code = 1

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(problem, advice)
        self.problem = problem
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.problem}\n{self.advice}"


class InputError(WorkbenchError):
    """What the user gave is wrong; nothing was written."""

    exit_code = 2


class RunError(WorkbenchError):
    """The disk, the run folder or a checkpoint is at fault."""
