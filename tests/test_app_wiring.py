"""How the pages' handlers are wired: what goes through Gradio's queue, and where it shows progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.desks import FAKE
from workbench.app import server
from workbench.app.desk import Desk
from workbench.worker import Worker


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Every handler of a page's own, as the browser is told of it."""
    runs: Path = tmp_path_factory.mktemp("server") / "runs"
    app = server.make_app(Desk.at(runs, Worker(runs, command=FAKE)))
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        dependencies = client.get("/config").json()["dependencies"]
    return [one for one in dependencies if one["api_visibility"] == "private" and one["backend_fn"]]


def test_only_what_streams_goes_through_the_queue(wired: list[dict[str, Any]]) -> None:
    assert any(one["types"]["generator"] for one in wired)
    assert [one for one in wired if one["queue"] != one["types"]["generator"]] == []


def test_only_what_is_slow_shows_progress_and_nothing_else_tells_its_outputs_of_any(
    wired: list[dict[str, Any]],
) -> None:
    quiet = [one for one in wired if one["show_progress"] == "hidden"]
    assert len(quiet) > 50
    # None would be all outputs: each poll would then cost the browser ten times as much, as nothing is drawn.
    assert [one["targets"] for one in quiet if one["show_progress_on"] != []] == []
    slow = [one for one in wired if one not in quiet]
    assert len(slow) == 2 and all(one["show_progress"] == "full" and one["show_progress_on"] is None for one in slow)
