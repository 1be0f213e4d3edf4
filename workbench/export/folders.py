"""Write a finished run as a folder that other programs read. Whole or not at all; nothing is overwritten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.adapters import CONFIG_FILE, merge_adapter
from workbench.errors import InputError
from workbench.export.card import model_card
from workbench.export.trl_script import write_trl
from workbench.models import quiet
from workbench.quantised import is_quantised, written_out
from workbench.runs import Run
from workbench.runs.folder import clear_disk_errors
from workbench.runs.session import load_base


def export_run(run: Run, kind: str, destination: Path) -> Path:
    """Write `run` to the folder `destination` and return it.

    Args:
        kind: `adapter` (PEFT, loads with `PeftModel.from_pretrained`), `merged` (a plain Hugging Face model with its
            tokenizer), or `trl` (a script with its data that repeats the run with TRL).

    Raises:
        InputError: the kind is unknown, the run is not finished, or the destination holds something already.
        RunError: the destination cannot be written.
    """
    if kind not in KINDS:
        raise InputError(f"There is no export {kind!r}.", f"Choose one of {', '.join(KINDS)}.")
    if not (run.adapter / CONFIG_FILE).is_file():
        raise InputError(f"Run {run.name} is not finished.", f"First: workbench resume {run.name}.")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination} is there already and not empty.", "Name a new folder.")
    making = destination.with_name(f".making-{destination.name}-{os.getpid()}")
    with clear_disk_errors(destination):
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        try:
            KINDS[kind](run, making)
            (making / "README.md").write_text(model_card(run, kind), encoding="utf-8")
            if destination.exists():
                destination.rmdir()
            os.rename(making, destination)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
    return destination


def _adapter(run: Run, folder: Path) -> None:
    for file in run.adapter.iterdir():
        shutil.copy2(file, folder / file.name)


def _merged(run: Run, folder: Path) -> None:
    base = load_base(run)
    with quiet():
        if is_quantised(base.model):
            # Adding into the bits would round what was taught away; the unquantised model is not what it was taught on.
            base = replace(base, model=written_out(base.model))
        merged: Any = merge_adapter(base, run.adapter)
        merged.model.save_pretrained(str(folder), safe_serialization=True)
        merged.tokenizer.save_pretrained(str(folder))


KINDS: dict[str, Callable[[Run, Path], None]] = {"adapter": _adapter, "merged": _merged, "trl": write_trl}
"""The kinds of export, and what writes each."""
