"""A run is a folder; everything about it is rebuilt from its files.

config.json           every setting, the model and its revision, the versions
demonstrations.jsonl  the rows, each with its side of the split
probes.jsonl          what retention is measured on
before/               the adapter that this run goes on from, where there is one (PEFT format)
events.jsonl          what happened, append-only (log.py)
checkpoints/          states to go on from (checkpoints.py)
adapter/              the result, in PEFT format
lock                  held by the process that teaches
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from workbench.demonstrations import Demonstration
from workbench.errors import InputError, RunError
from workbench.events import Checked, Evaluated, RunEnded, Saved, Step
from workbench.runs.log import EventLog

FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")
SPLITS = ("teaching", "held-out", "keep")
_LOOK = 0.25
"""Seconds in which whoever only looks whether a run is being taught is surely done."""


def default_runs() -> Path:
    """Where runs are kept if nothing else is said: $WORKBENCH_RUNS, else ./runs."""
    return Path(os.environ.get("WORKBENCH_RUNS", "runs"))


def check_name(name: str) -> str:
    """Return a run's name if it is safe as a folder's name; raise InputError otherwise."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"{name!r} cannot be a run's name.",
            "Use up to 100 letters, digits, spaces, dots, dashes and underscores, starting with a letter or digit.",
        )
    return name


@contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a disk into a sentence and a next step."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RunError(
                f"The disk is full: {path} could not be written. What was saved before is intact.",
                "Free some space and run the command again; a run that had begun goes on with: workbench resume RUN.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RunError(
                f"{path} cannot be written: {error.strerror}.",
                "Give yourself the right to write there, or name another folder with --runs DIR.",
            ) from error
        raise RunError(f"{path} could not be written: {error}.", "Check the disk and the path.") from error


@dataclass(frozen=True, slots=True)
class Run:
    """One run's folder."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name is the run's name."""
        return self.path.name

    @property
    def config(self) -> dict[str, Any]:
        """What is in config.json."""
        try:
            config: dict[str, Any] = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.path / 'config.json'} cannot be read: {error}.",
                "This is not a run's folder, or it is damaged.",
            ) from error
        return config

    @property
    def log(self) -> EventLog:
        """The run's events."""
        return EventLog(self.path / "events.jsonl")

    @property
    def checkpoints(self) -> Path:
        """Where the run's checkpoints are."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """Where the finished adapter is."""
        return self.path / "adapter"

    @property
    def before(self) -> Path | None:
        """The adapter that this run goes on from."""
        return self.path / "before" if (self.path / "before").is_dir() else None

    def rows(self, split: str) -> list[Demonstration]:
        """The rows of one side of the split, in the order in which they were read."""
        return [
            Demonstration.from_dict({k: v for k, v in row.items() if k != "split"})
            for row in _json_lines(self.path / "demonstrations.jsonl")
            if row["split"] == split
        ]

    def probes(self) -> list[Demonstration]:
        """What retention is measured on."""
        return [Demonstration.from_dict(row) for row in _json_lines(self.path / "probes.jsonl")]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for teaching. The lock goes when the process does, however it ends.

        Raises:
            RunError: another process is teaching this run.
        """
        with clear_disk_errors(self.path):
            handle = (self.path / "lock").open("a")
        with handle:
            if not _take_patiently(handle):
                raise RunError(f"Run {self.name} is being taught by another process.", "Wait for it, or stop it first.")
            yield

    @property
    def is_busy(self) -> bool:
        """Whether a process is teaching this run now."""
        try:
            with (self.path / "lock").open("a") as handle:
                return not take(handle, shared=True)
        except OSError:
            return False

    def summary(self) -> dict[str, Any]:
        """One line about the run, for lists: state, step, skill, retention and when it was started.

        `on` is the run that it goes on from, whose result its retention is measured against.

        A run whose files cannot be read has the state `damaged` and nothing else: one bad folder must not hide the
        others.
        """
        try:
            config = self.config
            events = self.log.read()
            steps = int(config["settings"]["optim"]["steps"])
            method, model, started = (str(config[key]) for key in ("method", "model", "started"))
        except (RunError, KeyError, TypeError, ValueError):
            lost = dict.fromkeys(("method", "model", "on", "step", "steps", "skill", "retention", "started"))
            return {"run": self.name, "state": "damaged", **lost}
        last = {type(event): event for event in events}
        evaluated, checked = last.get(Evaluated), last.get(Checked)
        step = max((e.step for e in events if isinstance(e, Step | Saved)), default=0)
        state = "finished" if RunEnded in last else "running" if self.is_busy else "stopped"
        skill = evaluated.skill if isinstance(evaluated, Evaluated) else None
        if skill is None and isinstance(checked, Checked) and not step:
            skill = checked.base  # which is what the student is until it has taken a step
        retention = evaluated.retention if isinstance(evaluated, Evaluated) else None
        return {
            "run": self.name,
            "state": state,
            "method": method,
            "model": model,
            "on": config.get("on"),
            "step": step,
            "steps": steps,
            "skill": None if skill is None else round(skill.value, 4),
            "retention": None if retention is None else round(retention.value, 4),
            "started": started,
        }


def free_path(runs: Path, name: str) -> Path:
    """Where a run of this name will be kept.

    Raises:
        InputError: the name is not safe, or a run of that name is there already.
    """
    path = runs / check_name(name)
    if path.exists():
        raise InputError(f"There is a run {name} in {runs} already.", "Choose another --name, or resume that run.")
    return path


def create(
    runs: Path,
    name: str,
    config: dict[str, Any],
    rows: dict[str, Sequence[Demonstration]],
    probes: Sequence[Demonstration],
    before: Path | None = None,
) -> Run:
    """Make a run's folder, whole or not at all.

    Args:
        rows: the demonstrations by side of the split (`SPLITS`).
        before: the adapter folder to go on from; it is copied.

    Raises:
        InputError: the name is not safe, or a run of that name is there already.
        RunError: the folder cannot be written.
    """
    path = free_path(runs, name)
    with unfinished(runs, name) as making:
        making.mkdir()
        text = json.dumps({"format": FORMAT, **config}, indent=2, ensure_ascii=False)
        (making / "config.json").write_text(text + "\n", encoding="utf-8")
        lines = [{**row.to_dict(), "split": split} for split in SPLITS for row in rows.get(split, ())]
        _write_lines(making / "demonstrations.jsonl", lines)
        _write_lines(making / "probes.jsonl", [probe.to_dict() for probe in probes])
        if before is not None:
            shutil.copytree(before, making / "before")
        (making / "checkpoints").mkdir()
        os.rename(making, path)
    return Run(path)


@contextmanager
def unfinished(runs: Path, name: str) -> Iterator[Path]:
    """A free, hidden path beside the runs to make one at and to rename when it is whole; else what is there goes.

    Whoever makes a run holds a lock of the folder that others may hold too. Who can have it alone knows that nobody
    makes one now, so that what is found unfinished is of processes that were killed, and removes it.

    Raises:
        RunError: the disk is full, or cannot be written.
    """
    making = runs / f".unfinished-{name}-{os.getpid()}-{os.urandom(4).hex()}"
    with clear_disk_errors(runs):
        runs.mkdir(parents=True, exist_ok=True)
        handle = os.open(runs, os.O_RDONLY)
        try:
            if take(handle):
                for old in runs.glob(".unfinished-*"):
                    shutil.rmtree(old, ignore_errors=True)
            _share(handle)
            yield making
        finally:
            shutil.rmtree(making, ignore_errors=True)
            os.close(handle)


def open_run(name_or_path: str, runs: Path) -> Run:
    """The run of this name in `runs`, or in this folder.

    Raises:
        InputError: there is none; the runs that exist are named.
    """
    for path in (runs / name_or_path, Path(name_or_path)):
        if (path / "config.json").is_file() and (path / "demonstrations.jsonl").is_file():
            return Run(path.resolve())
    known = [run.name for run in list_runs(runs)]
    there = f"There are: {', '.join(known[-8:])}." if known else f"{runs} holds none yet."
    raise InputError(f"There is no run {name_or_path!r}.", f"{there} See `workbench runs`, or name another --runs DIR.")


def list_runs(runs: Path) -> list[Run]:
    """All runs in a folder, oldest first."""
    if not runs.is_dir():
        return []
    found = [Run(p) for p in runs.iterdir() if not p.name.startswith(".") and (p / "config.json").is_file()]
    return sorted(found, key=lambda run: (_started(run), run.name))


def _started(run: Run) -> str:
    """When a run was started; empty, so that it comes first, where that cannot be read."""
    try:
        return str(run.config.get("started", ""))
    except (RunError, AttributeError):
        return ""


def free_name(runs: Path, stem: str) -> str:
    """`stem`, or `stem-2`, `stem-3`, ... : the first that is not taken."""
    stem = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]+", "-", stem)).lstrip("-._").rstrip("-.") or "run"
    name, number = stem[:90], 1
    while (runs / name).exists():
        number += 1
        name = f"{stem[:90]}-{number}"
    return name


def take(handle: IO[str] | int, shared: bool = False) -> bool:
    """Take the advisory lock of an open file, if it is free.

    Args:
        shared: only to look whether it is: several may look at once.
    """
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _share(handle: int) -> None:
    """Hold the lock together with others, once nobody has it alone."""
    import fcntl

    # A disk without locks has none that anybody could have alone, either.
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_SH)


def _take_patiently(handle: IO[str]) -> bool:
    """The same, though somebody may be looking just now, who is done at once."""
    end = time.monotonic() + _LOOK
    while not take(handle):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read: {error}.", "The run's folder is damaged; copy it from a backup."
        ) from error
