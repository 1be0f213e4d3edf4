"""What a person does with whole runs: rename, note, put in the bin and take out again, go back to a checkpoint.

No torch. A run that is being taught is left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path

from workbench.errors import InputError, RunError
from workbench.runs.folder import Run, check_name, clear_disk_errors, free_name, unfinished

NOTE = 4000
"""Longest note, in characters."""

_BINNED = re.compile(r"(?P<when>\d{13,16})-(?P<name>.+)")


def rename(run: Run, name: str) -> Run:
    """Call a run otherwise.

    Raises:
        InputError: the name is not safe, or taken.
        RunError: the run is being taught.
    """
    name = check_name(name.strip())
    if name == run.name:
        return run
    target = run.path.with_name(name)
    if target.exists():
        raise InputError(f"There is a run {name} already.", "Choose another name.")
    _leave_alone_if_busy(run, "renamed")
    with clear_disk_errors(run.path):
        os.rename(run.path, target)
    return Run(target)


def note_of(run: Run) -> str:
    """What was noted about a run; empty if nothing was."""
    try:
        return (run.path / "note.txt").read_text(encoding="utf-8", errors="replace")[:NOTE]
    except OSError:
        return ""


def set_note(run: Run, text: str) -> None:
    """Note something about a run, in place of what was noted before."""
    if len(text) > NOTE:
        raise InputError(f"The note has {len(text):,} characters.", f"Keep it within {NOTE:,}.")
    # Half of a surrogate pair cannot be written to a file.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    with clear_disk_errors(run.path):
        part = run.path / ".note.part"
        part.write_text(clean, encoding="utf-8")
        os.replace(part, run.path / "note.txt")


def put_away(run: Run) -> str:
    """Move a run to the bin beside the runs; returns what `take_out` needs."""
    _leave_alone_if_busy(run, "deleted")
    bin_ = run.path.parent / ".trash"
    with clear_disk_errors(run.path):
        bin_.mkdir(exist_ok=True)
        mark = f"{time.time_ns() // 1000}-{run.name}"
        os.rename(run.path, bin_ / mark)
    return mark


def put_away_runs(runs: Path) -> list[tuple[str, str]]:
    """What is in the bin, as (mark, name), the last one first."""
    folder = runs / ".trash"
    found = [m for p in folder.iterdir() if (m := _BINNED.fullmatch(p.name))] if folder.is_dir() else []
    return [(m[0], m["name"]) for m in sorted(found, key=lambda m: int(m["when"]), reverse=True)]


def take_out(runs: Path, mark: str) -> Run:
    """Move a run back from the bin; under another name if its own is taken meanwhile."""
    names = dict(put_away_runs(runs))
    if mark not in names:
        raise InputError("That run is not in the bin any more.", "Load the page again to see what is.")
    target = runs / free_name(runs, names[mark]) if (runs / names[mark]).exists() else runs / names[mark]
    with clear_disk_errors(runs):
        os.rename(runs / ".trash" / mark, target)
    return Run(target)


def saved_steps(run: Run) -> list[int]:
    """The steps of a run's checkpoints, lowest first."""
    found = [p.name[5:] for p in run.checkpoints.glob("step-*")] if run.checkpoints.is_dir() else []
    return sorted(int(step) for step in found if step.isdigit())


def go_back(run: Run, step: int, name: str | None = None) -> Run:
    """A new run that ends at a checkpoint of this one. The run itself stays as it is.

    The new run has the same rows, and the log and the state up to that step; `resume` makes its adapter and ends it,
    and measures it first where this run was not measured at that step.

    Args:
        name: of the new run; by default `NAME-step-50`.

    Raises:
        InputError: there is no such checkpoint, or the name is taken.
        RunError: the checkpoint cannot be read.
    """
    source = run.checkpoints / f"step-{step:06d}"
    if step not in saved_steps(run):
        raise InputError(f"Run {run.name} has no checkpoint of step {step}.", "Choose one that there is.")
    name = check_name(name) if name else free_name(run.path.parent, f"{run.name}-step-{step}")
    target = run.path.with_name(name)
    if target.exists():
        raise InputError(f"There is a run {name} already.", "Choose another name.")
    try:
        events = int(json.loads((source / "state.json").read_text(encoding="utf-8"))["events"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"The checkpoint {source} cannot be read: {error}.", "Choose another one.") from error
    with unfinished(run.path.parent, name) as making:
        shutil.copytree(source, making / "checkpoints" / source.name)
        for file in ("demonstrations.jsonl", "probes.jsonl"):
            shutil.copy2(run.path / file, making / file)
        if run.before is not None:
            shutil.copytree(run.before, making / "before")
        _write_config(run, step, making)
        written, measured = _write_log(run, name, step, events, making)
        if not measured:
            _leave_to_measure(making / "checkpoints" / source.name, written)
        os.rename(making, target)
    return Run(target)


def _write_config(run: Run, step: int, folder: Path) -> None:
    config = run.config
    planned = config["settings"]["optim"]["steps"]
    config["settings"]["optim"]["steps"] = step
    said = f"Ends at step {step} of run {run.name}, which was planned for {planned} steps."
    config["notes"] = [*config.get("notes", ()), said]
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def _write_log(run: Run, name: str, step: int, events: int, folder: Path) -> tuple[int, bool]:
    """Write a run's first events as those of a run that ends at this step.

    Returns:
        How many were written, and whether the measurement at that step is among them. Without it the checkpoint is not
        noted: so stands a run that was stopped while it was measured.
    """
    written, measured = 0, False
    with (folder / "events.jsonl").open("w", encoding="utf-8") as file:
        for values in run.log.dictionaries():
            if values["seq"] > events:
                break
            if values["event"] == "run_started":
                values |= {"run": name, "steps": step}
            elif values["event"] == "step":
                values["steps"] = step
            elif values["event"] == "evaluated":
                measured |= values["step"] == step
            elif values["event"] == "saved" and values["step"] == step and not measured:
                break
            file.write(json.dumps(values, ensure_ascii=False) + "\n")
            written = values["seq"]
    return written, measured


def _leave_to_measure(checkpoint: Path, events: int) -> None:
    """Write into a checkpoint, and into its manifest, that what is due after its step has not been done.

    Raises:
        RunError: its files cannot be read, or the state is not as it was saved.
    """
    state, manifest = checkpoint / "state.json", checkpoint / "manifest.json"
    try:
        known, old = json.loads(manifest.read_text(encoding="utf-8")), state.read_bytes()
        wrong = "" if known["state.json"]["sha256"] == hashlib.sha256(old).hexdigest() else "it was changed"
        new = json.dumps({**json.loads(old), "events": events, "settled": False}).encode("utf-8")
        known["state.json"] = {"bytes": len(new), "sha256": hashlib.sha256(new).hexdigest()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        wrong = str(error)
    if wrong:
        raise RunError(f"The checkpoint {checkpoint.name} cannot be read: {wrong}.", "Choose another one.")
    state.write_bytes(new)
    manifest.write_text(json.dumps(known, indent=2), encoding="utf-8")


def _leave_alone_if_busy(run: Run, done: str) -> None:
    if run.is_busy:
        raise RunError(f"Run {run.name} is being taught, so it cannot be {done} now.", "Stop it first.")
