"""What is done to the disk, in turn: which file is synced, and which is given its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Done = list[tuple[str, str]]


def watch(monkeypatch: pytest.MonkeyPatch) -> Done:
    """("synced", name) for each file or folder that is, and ("named", its new name) for each that is."""
    done: Done = []
    sync = os.fsync

    def synced(handle: int) -> None:
        done.append(("synced", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        sync(handle)

    def naming(rename: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def named(old: Any, new: Any) -> None:
            done.append(("named", Path(new).name))
            rename(old, new)

        return named

    monkeypatch.setattr(os, "fsync", synced)
    for way in ("rename", "replace"):
        monkeypatch.setattr(os, way, naming(getattr(os, way)))
    return done
