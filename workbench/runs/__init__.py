"""Run folders: what was asked, what happened, what to go on from (`session` teaches one; it needs torch)."""

from workbench.runs.folder import Run, default_runs, free_name, list_runs, open_run

__all__ = ["Run", "default_runs", "free_name", "list_runs", "open_run"]
