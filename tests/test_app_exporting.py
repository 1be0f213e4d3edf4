"""A zip of a run for download: made in the background, shown to every page, refused in words."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.desks import desk_at_rest
from tests.fake_run import finished
from tests.waiting import until
from workbench.app import exporting, runs, shelving
from workbench.app.desk import Desk
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.runs import zips
from workbench.worker import Call

SKIPPED = [gr.skip()] * 2


@pytest.fixture
def desk(tmp_path: Path, rows: list[Demonstration]) -> Iterator[Desk]:
    for name in ("one", "two"):
        finished(tmp_path / "runs", name, rows)
    with desk_at_rest(tmp_path / "runs") as made:
        yield made


def export(desk: Desk, run: str | None, kind: str) -> list[Any]:
    """What the page shows in the end."""
    said = runs.press_export(desk, {}, run, kind)
    last = exporting.latest(desk)
    assert last is None or last.over.wait(60)
    return said if last is None else runs.show_export(desk)


def test_a_zip_is_made_outside_of_the_runs(desk: Desk) -> None:
    said, file = export(desk, "one", "adapter")
    path = Path(file["value"])
    assert "one-adapter.zip is ready" in said and Path(os.environ["GRADIO_TEMP_DIR"]) in path.parents
    assert zipfile.ZipFile(path).namelist() == ["one-adapter/README.md"]
    assert [p.name for p in path.parent.iterdir()] == ["one-adapter.zip"], "what it was made of is gone"


def test_what_cannot_be_is_refused_at_once(desk: Desk) -> None:
    assert "no export" in runs.press_export(desk, {}, "one", "../x")[0]
    assert "No run is chosen" in runs.press_export(desk, {}, None, "adapter")[0]
    assert exporting.latest(desk) is None


def test_a_page_that_is_opened_meanwhile_shows_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    call, real = Call(), desk.worker.call
    monkeypatch.setattr(desk.worker, "call", lambda *_, **__: call)
    cursor: dict[str, Any] = {}
    assert "is being made" in runs.press_export(desk, cursor, "one", "merged")[0]
    assert "is being made" in runs.show_export(desk)[0], "the page was loaded again"
    assert "is being made" in runs.poll_export(desk, cursor)[0] and runs.poll_export(desk, cursor) == SKIPPED
    with pytest.raises(InputError, match="A zip of one is being made"):
        exporting.start(desk, "two", "run")
    call._add({"reply": "failed", "problem": "There is no room.", "advice": "Make some."})
    last = exporting.latest(desk)
    assert last is not None and last.over.wait(60)
    said, file = runs.poll_export(desk, cursor)
    assert "There is no room." in said and "note-wrong" in said and file["visible"] is False
    monkeypatch.setattr(desk.worker, "call", real)
    assert "two.zip is ready" in export(desk, "two", "run")[0]


def test_a_refusal_goes_when_something_else_is_chosen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    said, file = export(desk, "one", "run")
    assert runs.turn(desk, said) == gr.skip() and Path(file["value"]).exists(), "what is ready stays"
    call = Call()
    call._add({"reply": "failed", "problem": "There is no room.", "advice": "Make some."})
    monkeypatch.setattr(desk.worker, "call", lambda *_, **__: call)
    said, _ = export(desk, "one", "merged")
    assert "no room" in said and runs.turn(desk, said) == "" and runs.show_export(desk)[0] == ""


def test_what_nobody_foresaw_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Path:
        raise ValueError("ZIP does not support timestamps before 1980")

    monkeypatch.setattr("workbench.runs.zips.pack", broken)
    assert "timestamps before 1980" in export(desk, "one", "run")[0]


def test_a_run_that_is_too_large_to_be_imported_is_said_to_be(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "MB" not in export(desk, "one", "run")[0]
    monkeypatch.setattr(runs, "UPLOAD", 100)
    assert "Import takes at most" in export(desk, "one", "run")[0]


def test_a_run_in_use_is_not_packed(tmp_path: Path, desk: Desk, rows: list[Demonstration]) -> None:
    call = desk.worker.call("sit", run=finished(tmp_path / "runs", "hold", rows).name)
    until(lambda: desk.worker.status.run == "hold")
    with pytest.raises(InputError, match="in use"):
        exporting.start(desk, "hold", "run")
    desk.worker.stop(call)


def test_a_zip_that_was_cleared_away_is_no_longer_offered(desk: Desk) -> None:
    for kind in ("adapter", "run"):
        Path(export(desk, "one", kind)[1]["value"]).unlink()
        assert exporting.latest(desk) is None
        said, file = runs.show_export(desk)
        assert said == "" and file["value"] is None and file["visible"] is False


def test_a_run_stays_where_it_is_while_its_zip_is_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    packing, packed = threading.Event(), zips.pack

    def slowly(folder: Path, destination: Path) -> Path:
        assert packing.wait(60)
        return packed(folder, destination)

    monkeypatch.setattr(zips, "pack", slowly)
    begun = exporting.start(desk, "one", "run")
    for act in (partial(shelving.rename, new="other"), shelving.delete):
        with pytest.raises(InputError, match="A zip of one is being made"):
            act(desk, "one")
    shelving.delete(desk, "two")
    packing.set()
    assert begun.over.wait(60) and begun.path is not None
    assert shelving.rename(desk, "one", "other") == "other"


def test_a_file_that_goes_while_it_is_packed_is_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    write = zipfile.ZipFile.write

    def written(self: zipfile.ZipFile, path: Path, name: str) -> None:
        (desk.runs / "one" / "probes.jsonl").unlink(missing_ok=True)
        write(self, path, name)

    monkeypatch.setattr(zipfile.ZipFile, "write", written)
    assert "note-wrong" in export(desk, "one", "run")[0]
