"""One workbench for each folder of runs: two would write over each other's draft."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import InputError
from workbench.runs.folder import clear_disk_errors, take


@contextmanager
def held(runs: Path) -> Iterator[Callable[[str], None]]:
    """Hold a folder of runs until the end of the block, or of the process, however it ends.

    Yields:
        A function that notes at which address it is served, for whoever comes second.

    Raises:
        InputError: another workbench holds it.
    """
    path = runs / ".draft" / "lock"
    with clear_disk_errors(runs):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+", encoding="utf-8")
    with handle:
        if not take(handle):
            handle.seek(0)
            address = handle.read().strip() or "this machine"
            raise InputError(
                f"A workbench is open on {runs} already, at {address}.",
                "Use that one, or close it first, or name another folder with --runs DIR.",
            )

        def note(address: str) -> None:
            handle.truncate(0)
            handle.write(address)
            handle.flush()

        note("")
        yield note
