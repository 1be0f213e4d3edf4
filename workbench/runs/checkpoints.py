"""States of a run that can be gone on from: safetensors and JSON, published by renaming a folder.

    checkpoints/step-000050/
        state.safetensors   adapter, AdamW moments, EMA teacher
        state.json          step, number of events so far, whether the step's measurement is among them
        manifest.json       size and sha256 of the two

A folder under its final name is whole: its files were on the disk before it was renamed. One that was damaged later
is found by its manifest and passed over for the one before it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.errors import InputError, RunError

_FILES = ("state.safetensors", "state.json")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published state.

    Attributes:
        step: the last step taken.
        events: how many events had been logged by then.
        settled: whether what was due after that step (a measurement) had been done.
    """

    path: Path
    step: int
    events: int
    settled: bool

    def tensors(self) -> dict[str, Tensor]:
        """The saved tensors by name, not tied to the file."""
        # A tensor that is still mapped would change, or crash the process, if the file did.
        return {name: value.clone() for name, value in load_file(self.path / "state.safetensors").items()}


def save(folder: Path, step: int, tensors: dict[str, Tensor], events: int, settled: bool = True) -> Path:
    """Publish a checkpoint, in place of one of the same step if there is one.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing half-made stays behind.
    """
    final = folder / f"step-{step:06d}"
    making = folder / f".tmp-step-{step:06d}-{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    try:
        making.mkdir(parents=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, making / "state.safetensors")
        (making / "state.json").write_text(json.dumps({"step": step, "events": events, "settled": settled}))
        manifest = {
            name: {"bytes": (making / name).stat().st_size, "sha256": _sha256(making / name)} for name in _FILES
        }
        (making / "manifest.json").write_text(json.dumps(manifest, indent=2))
        for name in (*_FILES, "manifest.json"):
            _sync(making / name)
        _sync(making)
        old = folder / f".tmp-old-{step:06d}-{os.getpid()}"
        if final.exists():
            os.rename(final, old)
        os.rename(making, final)
        shutil.rmtree(old, ignore_errors=True)
        _sync(folder)
    except SafetensorError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise OSError(_errno_of(error), str(error)) from error
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return final


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None if it is as its manifest says."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        for name in _FILES:
            if (path / name).stat().st_size != manifest[name]["bytes"]:
                return f"{name} has {(path / name).stat().st_size} bytes instead of {manifest[name]['bytes']}"
            if _sha256(path / name) != manifest[name]["sha256"]:
                return f"{name} was changed after it was saved"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its manifest or a file cannot be read ({error})"
    return None


def all_steps(folder: Path) -> list[int]:
    """The steps of the published checkpoints, lowest first."""
    return sorted(int(p.name[5:]) for p in folder.glob("step-*") if p.name[5:].isdigit())


def load(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of this step. Raises InputError if there is none, RunError if it is damaged."""
    path = folder / f"step-{step:06d}"
    steps = all_steps(folder)
    if step not in steps:
        raise InputError(
            f"There is no checkpoint of step {step}.",
            f"There are checkpoints of steps {', '.join(map(str, steps)) or 'none'}.",
        )
    wrong = damage(path)
    if wrong:
        raise RunError(f"The checkpoint {path} is damaged: {wrong}.", "Use another checkpoint of this run.")
    state = json.loads((path / "state.json").read_text())
    return Checkpoint(path, int(state["step"]), int(state["events"]), bool(state["settled"]))


def clear_leftovers(folder: Path) -> None:
    """Remove from a folder what a process that was killed while saving to it left. Only under the run's lock.

    Without that, the folder that goes may be one that another process is just saving to.
    """
    for old in folder.glob(".tmp-*"):
        shutil.rmtree(old, ignore_errors=True)


def latest(folder: Path, promised: bool) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, with a note for each damaged one that was passed over.

    Nothing is changed: the run may be taught by another process meanwhile.

    Args:
        promised: whether the log says that a checkpoint was saved; then finding none is an error, never a silent
            new beginning.

    Raises:
        RunError: checkpoints were saved, and none of them is whole.
    """
    notes: list[str] = []
    for step in reversed(all_steps(folder)):
        wrong = damage(folder / f"step-{step:06d}")
        if wrong is None:
            return load(folder, step), notes
        notes.append(f"The checkpoint of step {step} is damaged ({wrong}) and was passed over.")
    if notes or promised:
        raise RunError(
            f"No checkpoint in {folder} can be used. {' '.join(notes)}".strip(),
            "Restore the folder from a backup, or teach anew under another name; the demonstrations are in "
            "demonstrations.jsonl of this run.",
        )
    return None, notes


def _errno_of(error: SafetensorError) -> int:
    """What the operating system said, which safetensors gives in its text only: `... (os error 28)`."""
    said = re.search(r"\(os error (\d+)\)", str(error))
    return int(said[1]) if said else errno.EIO


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
