"""A refused start of teaching: its message goes when what was refused has been put right, and not before."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.test_app_teach import FAKE, pressed
from tests.waiting import until
from workbench.app import refusal, teach
from workbench.app.desk import Cursor, Desk
from workbench.worker import Worker

ROWS = [{"prompt": f"Question {i}?", "demonstration": f"It is {i}.", "answer": str(i)} for i in range(6)]


def test_it_goes_when_what_was_refused_is_put_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cursor: Cursor = {}
    monkeypatch.setenv("FAKE_HOLD_AT", "3")
    with contextlib.closing(Worker(tmp_path / "runs", command=FAKE)) as worker:
        worker.start()
        desk = Desk.at(tmp_path / "runs", worker)
        until(lambda: worker.status.state == "idle")
        assert "There are no examples" in pressed(desk, "../x", cursor)[0]
        assert not refusal.mended(desk, cursor), "nothing has changed"
        desk.drafts.replace_rows(ROWS, "set")
        assert not refusal.mended(desk, cursor), "the name is wrong as well"
        desk.drafts.type(refusal.NAME, "x")
        noted = dict(cursor)
        assert refusal.mended(desk, cursor) and not refusal.mended(desk, cursor), "it is said once"
        assert refusal.mended(desk, noted), "and again where the answer was lost"
        assert pressed(desk, "x", cursor)[0] == ""
        until(lambda: worker.status.state == "teaching")
        assert not refusal.mended(desk, cursor), "nothing was refused since"
        assert "busy" in pressed(desk, "y", cursor)[0]
        desk.drafts.type(refusal.NAME, "z")
        assert not refusal.mended(desk, cursor), "it is busy yet"
        teach.press_stop(desk)
        until(lambda: worker.status.state == "idle")
        assert refusal.mended(desk, cursor)
        refusal.keep(desk, cursor, "z", idle=True)  # by the worker: a row is too long for the model, say
        assert not refusal.mended(desk, cursor), "nothing here tells that it would go well now"
        desk.drafts.delete(0)
        assert refusal.mended(desk, cursor)
