"""What a model would need here, found out before it is loaded. No Gradio and no torch here."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from workbench import hub
from workbench.errors import InputError
from workbench.execution import Execution
from workbench.memory import BYTES, Estimate, Machine, Shape, count, estimate, gigabytes, read_shape
from workbench.planning import KNOWN, LEAST, fit
from workbench.pocket import WEIGHTS
from workbench.settings import Settings

POCKET = "pocket"
PRECISIONS = ("auto", "fp32", "bf16", "8-bit", "4-bit")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_LONGEST = 255
_DOWNLOADED = "Its weights will be downloaded from the hub."
_PUBLISHED = "The hub does not answer; this is by its published config.json, which comes with the workbench."


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a model.

    Attributes:
        where: in words; empty while it is being asked for.
        shape: its size; None if that is not known.
        problem: why it is not known, and what to do.
        download: whether its weights are not on this machine yet, as far as one can tell.
    """

    name: str
    where: str = ""
    shape: Shape | None = None
    problem: str = ""
    download: bool = False
    pending: bool = False


class Lookups:
    """Reads config.json: of the bundled model, of a folder, of the local cache, or from the hub in the background."""

    def __init__(self, fetch: Callable[[str], Path] | None = None) -> None:
        self._fetch = fetch or _from_hub
        self._lock = threading.Lock()
        self._asked: dict[str, Found] = {}
        self.version = 0  # rises whenever the hub has answered

    def find(self, name: str) -> Found:
        """What is known now; never waits. Ask again while it is `pending`."""
        kind = kind_of(name)
        if kind == "pocket":
            return _read(POCKET, WEIGHTS / "config.json", "It comes with the workbench; nothing is downloaded.")
        if kind == "folder":
            return _folder(name)
        if kind == "unclear":
            return Found(
                name,
                problem="This is neither a folder that exists nor the name of a model on the hub. Write pocket, a "
                "folder's path, or a name such as Qwen/Qwen3-4B-Instruct-2507.",
            )
        with self._lock:
            found = self._asked.get(name)
            if found is None:
                found = self._asked[name] = self._start(name)
            return found

    def forget(self, name: str) -> None:
        """Ask again next time, after a failure."""
        with self._lock:
            found = self._asked.get(name)
            if found is not None and found.problem:
                del self._asked[name]

    def _start(self, name: str) -> Found:
        cached = hub.held_config(name)
        if cached is not None:
            here = any(cached.parent.glob("*.safetensors"))
            where = "It is in this computer's cache." if here else _DOWNLOADED
            return _read(name, cached, where, download=not here)
        threading.Thread(target=self._ask_hub, args=(name,), name="model-lookup", daemon=True).start()
        return Found(name, pending=True)

    def _ask_hub(self, name: str) -> None:
        try:
            found = _read(name, self._fetch(name), _DOWNLOADED, download=True)
        except InputError as error:
            found = Found(name, problem=f"{error.problem} {error.advice}", download=True)
            if name in KNOWN:
                found = Found(name, _PUBLISHED, read_shape(KNOWN[name]), download=True)
        except Exception as error:  # noqa: BLE001 - a thread that dies would leave the page asking for ever
            said = f"{name} could not be looked up ({type(error).__name__}: {error}). Try again."
            found = Found(name, problem=said, download=True)
        with self._lock:
            self._asked[name] = found
            self.version += 1


def kind_of(name: str) -> Literal["pocket", "folder", "hub", "unclear"]:
    """What a name stands for."""
    if name == POCKET:
        return "pocket"
    if len(name) > _LONGEST or "\0" in name:  # what no file system takes
        return "unclear"
    if name.startswith((".", "/", "~")) or "\\" in name or Path(name).is_dir():
        return "folder"
    return "hub" if _HUB_ID.fullmatch(name) else "unclear"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model fits: `yes`, `answers only`, `tight` or `no`, and why, in sentences."""

    fits: Literal["yes", "answers only", "tight", "no"]
    why: str


def verdict(shape: Shape, precision: str, settings: Settings, machine: Machine) -> Verdict:
    """Hold what a model needs against what the machine has."""
    dtype = machine.auto if precision == "auto" else precision
    work, need = needs(shape, dtype, settings, machine)
    has = f"{machine.name} has {gigabytes(machine.free)} free of {gigabytes(machine.total)}"
    slow = "" if machine.gpu or shape.parameters < 5e8 else " Without a GPU a model of this size is slow."
    if work is not None:
        few = f", {work.micro_batch} of them at a time" if work.micro_batch else ""
        again = ", activations computed again" if work.checkpointing else ""
        return Verdict(
            "yes",
            f"Teaching needs about {gigabytes(need.teaching)} with {settings.optim.batch} answers a step{few}{again}; "
            f"{has}.{slow}",
        )
    if need.asking <= machine.free:
        return Verdict(
            "answers only",
            "It can be loaded and asked, but not taught: even with one answer at a time teaching needs about "
            f"{gigabytes(need.teaching)}; {has}. {_smaller(dtype)}{slow}",
        )
    if need.asking <= 0.95 * machine.total:
        return Verdict(
            "tight",
            f"Not just now: it needs {gigabytes(need.asking)} to answer; {has}. Close other programs, or choose less: "
            f"{_smaller(dtype)}{slow}",
        )
    return Verdict(
        "no",
        f"It does not fit: it needs {gigabytes(need.asking)} only to answer; {has}. {_smaller(dtype)}",
    )


def _smaller(dtype: str) -> str:
    if dtype == "fp32":
        return "In bf16 it takes half of that; a smaller model takes less; the pocket always fits."
    if dtype == "8-bit":
        return "In 4-bit it takes about half of that; a smaller model takes less; the pocket always fits."
    return "A smaller model takes less; the pocket always fits."


def needs(shape: Shape, precision: str, settings: Settings, machine: Machine) -> tuple[Execution | None, Estimate]:
    """How teaching would be carried out here, and what that needs but for what is kept only where there is room.

    Where it does not fit: None, and what it needs at least.
    """
    dtype = machine.auto if precision == "auto" else precision
    found = fit(shape, dtype, settings, machine.free)
    work = None if found is None else replace(found.work, prefix_bytes=0)
    return work, estimate(shape, dtype, settings, work=work or LEAST)


def about(found: Found) -> str:
    """A sentence or two about what was found."""
    if found.pending:
        return f"Asking the hub how large {found.name} is."
    if found.shape is None:
        return found.problem
    shape = found.shape
    text = f"{count(shape.parameters)} weights in {shape.layers} layers. {found.where}"
    if found.download:
        size = shape.parameters * (BYTES["fp32"] if shape.stored == 4 else BYTES["bf16"])
        free = _free_disk()
        text += f" That is about {gigabytes(size)}; the disk has {gigabytes(free)} free."
        if size > free:
            text += " It does not fit on the disk: free some space first."
    return text


def _folder(name: str) -> Found:
    path = Path(name).expanduser()
    if not path.exists():
        return Found(
            name, problem=f"There is no folder {name}. Check the path; it is one on the machine that runs this."
        )
    if not path.is_dir():
        return Found(name, problem=f"{name} is a file. Name the folder that holds config.json.")
    if not (path / "config.json").is_file():
        adapter = (
            " It holds an adapter: import it on the Runs page." if (path / "adapter_config.json").is_file() else ""
        )
        return Found(name, problem=f"{name} has no config.json.{adapter or ' Name the folder of a model.'}")
    if not any(path.glob("*.safetensors")):
        return Found(
            name,
            problem=f"{name} has no *.safetensors weights. Download the model again, in safetensors; weights in "
            "pickles (*.bin, *.pt) can run any code when they are opened and are not read.",
        )
    return _read(name, path / "config.json", "It is in this folder; nothing is downloaded.")


def _read(name: str, path: Path, where: str, download: bool = False) -> Found:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is not an object")
        return Found(name, where, read_shape(values), download=download)
    except InputError as error:
        return Found(name, where, problem=f"{error.problem} {error.advice}", download=download)
    except (OSError, ValueError) as error:
        return Found(name, where, problem=f"{name}'s config.json cannot be read: {error}. Download the model again.")


def _from_hub(name: str) -> Path:
    """The config.json of a model on the hub."""
    path = hub.config(name)
    if path is None:
        raise InputError(
            f"The hub does not answer, and {name} is not on this machine.",
            "Check the network; without one, pocket and folders on this disk work.",
        )
    return path


def _free_disk() -> float:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)
