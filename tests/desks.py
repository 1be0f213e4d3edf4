"""A desk with examples in its draft, over a worker without a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import until
from workbench.app.desk import Desk
from workbench.demonstrations import Demonstration
from workbench.settings import POCKET
from workbench.worker import Worker

FAKE = [sys.executable, str(Path(__file__).parent / "fake_worker.py")]

Open = Callable[..., Desk]


@contextmanager
def desk_at_rest(runs: Path, model: str = POCKET) -> Iterator[Desk]:
    """A desk whose worker is done with loading this model, or with failing to."""
    desk = Desk.at(runs, Worker(runs, model, FAKE))
    desk.worker.start()
    desk.worker.wait(lambda status: status.state == "idle", 30)
    try:
        yield desk
    finally:
        desk.worker.close()


@contextmanager
def desks(runs: Path, rows: Sequence[Demonstration]) -> Iterator[Open]:
    """Gives a function that opens a desk with these rows, over a worker that holds at a step; in the end they close."""
    made: list[Worker] = []
    with pytest.MonkeyPatch.context() as patch:

        def open_desk(hold: int | None = None, steps: int = 20) -> Desk:
            if hold is not None:
                patch.setenv("FAKE_HOLD_AT", str(hold))
            desk = Desk.at(runs, Worker(runs, command=FAKE))
            made.append(desk.worker)
            desk.worker.start()
            desk.drafts.replace_rows([row.to_dict() for row in rows], "colours")
            desk.drafts.set_setting("optim", "steps", steps)
            desk.drafts.choose(evaluate_every=5, save_every=5)
            until(lambda: desk.worker.status.state == "idle")
            return desk

        yield open_desk
        for worker in made:
            worker.close()
