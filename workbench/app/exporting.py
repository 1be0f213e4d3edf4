"""A zip of a run, made in the background: the server owns it, not the page that asked for it. No Gradio here.

The merged folder of a large model takes minutes, and a page that is loaded again meanwhile shows the same.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from workbench.app import cache
from workbench.app.desk import Desk
from workbench.app.shelving import idle
from workbench.errors import InputError, WorkbenchError
from workbench.runs import Run, zips
from workbench.runs.folder import clear_disk_errors
from workbench.worker import Call

KINDS = {
    "Adapter (PEFT)": "adapter",
    "Merged model": "merged",
    "Script for TRL": "trl",
    "The whole run (to import elsewhere)": "run",
}

_log = logging.getLogger(__name__)


class Export:
    """One zip, under way or ready.

    Attributes:
        path: the zip; None before it is ready.
        problem: why there is none; None if all is well.
        over: set when there is nothing more to wait for.
    """

    def __init__(self, run: Run, kind: str, make: Callable[[], Path]) -> None:
        self.run, self.kind = run.name, kind
        self.path: Path | None = None
        self.problem: WorkbenchError | None = None
        self.over = threading.Event()
        threading.Thread(target=self._wait, args=(make,), name="export", daemon=True).start()

    def _wait(self, make: Callable[[], Path]) -> None:
        try:
            self.path = make()
        except WorkbenchError as error:
            self.problem = error
        except Exception as error:
            _log.exception("A zip could not be made")
            self.problem = WorkbenchError(f"The zip could not be made: {error}.", "Try again; the run is as it was.")
        finally:
            self.over.set()


def start(desk: Desk, name: str | None, kind: str) -> Export:
    """Begin to make a zip.

    Args:
        kind: one of `KINDS`.

    Raises:
        InputError: no such run or kind, the run is in use, or another zip is being made.
    """
    run = idle(desk, name)
    if kind not in KINDS.values():
        raise InputError(f"There is no export {kind!r}.", f"Choose one of {', '.join(KINDS.values())}.")
    if (last := latest(desk)) is not None and not last.over.is_set():
        raise InputError(f"A zip of {last.run} is being made.", "Wait for it.")
    if kind == "run":
        made = Export(run, kind, lambda: pack(run))
    else:
        place = cache.fresh("export-")
        folder = place / f"{_as_file(run)}-{kind}"
        call = desk.worker.call("export", run=run.name, kind=kind, destination=str(folder))
        made = Export(run, kind, lambda: _packed(call, folder))
    desk.tasks["runs.export"] = made
    return made


def latest(desk: Desk) -> Export | None:
    """The zip that was asked for last, unless it is gone: what lies in the cache for a day is cleared away."""
    found = desk.tasks.get("runs.export")
    if not isinstance(found, Export) or (found.path is not None and not found.path.is_file()):
        return None
    return found


def forget(desk: Desk) -> None:
    """What came to nothing is not said any longer."""
    if (last := latest(desk)) is not None and last.problem is not None:
        del desk.tasks["runs.export"]


def pack(run: Run) -> Path:
    """A zip of a whole run's folder, to be imported elsewhere."""
    return _zip(run.path, cache.fresh("export-") / f"{_as_file(run)}.zip")


def _packed(call: Call, folder: Path) -> Path:
    """The zip of what the worker writes into a folder, which goes."""
    try:
        call.result()
        return _zip(folder, folder.with_name(f"{folder.name}.zip"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _zip(folder: Path, path: Path) -> Path:
    try:
        with clear_disk_errors(path.parent):
            return zips.pack(folder, path)
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise


def _as_file(run: Run) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run.name)
