"""workbench doctor: what this machine has, which precisions work on it, and what is missing."""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from workbench.commands import screen
from workbench.errors import InputError
from workbench.memory import gigabytes, machine
from workbench.quantised import PRECISIONS, choose

_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "gradio", "huggingface_hub")
_SECONDS = 3.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--offline", action="store_true", help="do not ask whether the hub can be reached")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Look, load nothing, and say what was found."""
    from huggingface_hub.constants import HF_HUB_CACHE

    here, gpu = machine(), torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    packages = {name: _version(name) for name in _PACKAGES}
    works = {name: _works(name, device) for name in PRECISIONS if name != "auto"}
    cache = HF_HUB_CACHE
    folder = next(p for p in (Path(cache), *Path(cache).parents) if p.exists())
    disk = float(shutil.disk_usage(folder).free)
    reached = None if options.offline else _reached()
    found: dict[str, Any] = {
        "card": torch.cuda.get_device_name(0) if gpu else None,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "packages": packages,
        "memory": {"name": here.name, "total": here.total, "free": here.free},
        "disk_free": disk,
        "cache": str(cache),
        "hub": reached,
        "precisions": works,
    }
    screen.heading("This machine")
    screen.say(f"  Card: {found['card'] or 'none that PyTorch can use'}; CUDA of PyTorch: {found['cuda'] or 'none'}")
    screen.say(f"  NVIDIA driver: {found['driver'] or 'none found'}")
    screen.say(f"  Memory: {here.name}, {gigabytes(here.free)} free of {gigabytes(here.total)}")
    screen.say(f"  Models are kept in {cache}; that disk has {gigabytes(disk)} free")
    screen.say(f"  huggingface.co: {'not asked' if reached is None else 'reached' if reached else 'not reached'}")
    screen.say("  " + ", ".join(f"{name} {version or 'not installed'}" for name, version in packages.items()))
    if here.gpu and not gpu:
        screen.say("  There is a GPU, and this PyTorch cannot use it: install the CUDA build from pytorch.org.")
    screen.heading("What will work")
    for name, said in works.items():
        screen.say(f"  {name}: {said}")
    return found


def _driver() -> str | None:
    """The version of the NVIDIA driver, which decides what CUDA a PyTorch may bring."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return said.strip().splitlines()[0] if said.strip() else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _works(name: str, device: torch.device) -> str:
    try:
        choose(name, None, device)
    except InputError as error:
        return f"no. {error.problem} {error.advice}"
    slow = device.type == "cpu" and name != "fp32"
    return "yes, and slow without a GPU" if slow else "yes"


def _reached() -> bool:
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception:  # noqa: BLE001 - whatever a broken network raises
        return False
    return True
