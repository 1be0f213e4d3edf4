"""Run folders: what was asked, what happened, what to go on from; and the session that teaches one."""

from workbench.runs.folder import Run, default_runs, free_name, list_runs, open_run
from workbench.runs.session import Request, Session, begin, load_for, student_at

__all__ = [
    "Request",
    "Run",
    "Session",
    "begin",
    "default_runs",
    "free_name",
    "list_runs",
    "load_for",
    "open_run",
    "student_at",
]
