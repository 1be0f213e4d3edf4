"""Stop on the page Compare: an answer, a list of answers, and what was there before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.desks import desk_at_rest
from tests.fake_run import config_of
from tests.waiting import until
from workbench.app import asking, compare, fixing, held_out
from workbench.app.asking import Asked, Form
from workbench.app.desk import Desk
from workbench.app.sittings import Sittings
from workbench.demonstrations import Demonstration
from workbench.runs import Run
from workbench.runs.folder import create
from workbench.settings import Settings
from workbench.worker import WasStopped

PROBES = [Demonstration(prompt=f"What is {i} plus 4?", answer=str(i + 4)) for i in range(6)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at_rest(tmp_path) as made:
        yield made


def run_named(name: str, runs: Path, rows: list[Demonstration], started: str = "2026-01-01T00:00:00+00:00") -> Run:
    config = {**config_of("sdft", "pocket", Settings(), "rows"), "started": started}
    made = create(runs, name, config, {"held-out": rows}, PROBES)
    made.adapter.mkdir()
    return made


def test_an_answer_that_is_stopped_stands_as_far_as_it_came(desk: Desk, rows: list[Demonstration]) -> None:
    run = run_named("colours", desk.runs, rows)
    for form in (Form("hold this", run=run.name, by="here"), Form("hold this", run=run.name, beside=50, by="here")):
        shown = asking.ask(desk, form)
        first = next(shown)
        assert first.asked is None, "what is looked at closer is not the answer before"
        assert "Answering" in next(shown).base
        assert compare.can_stop(desk, {"chosen.compare.by": "here"})[0]["interactive"] is True
        asking.under_way(desk).stop(desk.worker, "here")
        last = list(shown)[-1]
        assert "It was stopped before it had finished" in last.notice and "compare-wrong" not in last.notice
        assert "Stopped here." in last.base and ">I<" in last.base
        assert last.earlier == asking.SAME if not form.beside else "No answer." in str(last.earlier)
        until(lambda: not asking.under_way(desk).of("here"))
    assert desk.worker.status.state == "idle"


def test_answers_that_stand_there_can_be_looked_at(desk: Desk, rows: list[Demonstration]) -> None:
    run = run_named("colours", desk.runs, rows)
    for shown in asking.ask(desk, Form("What is red?", run=run.name, by="here")):
        assert isinstance(shown.asked, Asked) is ("token" in shown.student), "neither before the answers nor after them"
    assert shown.asked.texts["student"] == "Learned."


def test_a_page_stops_what_it_has_asked_itself(desk: Desk) -> None:
    shown = asking.ask(desk, Form("hold this", by="here"))
    next(shown)
    there, loaded_anew = {"chosen.compare.by": "there"}, {}
    assert compare.can_stop(desk, there)[0]["interactive"] is False
    asking.under_way(desk).stop(desk.worker, "there")
    assert compare.can_stop(desk, loaded_anew)[0]["interactive"] is True
    asking.under_way(desk).stop(desk.worker, None)
    assert "stopped" in list(shown)[-1].notice


def test_what_is_asked_once_the_server_ends_is_stopped_at_once(desk: Desk) -> None:
    asking.under_way(desk).end(desk.worker)
    assert "stopped" in list(asking.ask(desk, Form("hold this", by="here")))[-1].notice
    assert "stopped" in list(fixing.ask(desk, "hold this"))[-1][1]


def test_five_answers_can_be_stopped_too(desk: Desk) -> None:
    with ThreadPoolExecutor() as pool:
        shown = pool.submit(list, asking.ask_often(desk, Form("hold this", by="here")))
        until(lambda: asking.under_way(desk).of("here"))
        asking.under_way(desk).stop(desk.worker, "here")
        first, last = shown.result(60)
    assert "Asking 5 times" in first[0]
    assert "stopped before it had finished" in last[0] and "compare-wrong" not in last[0]


def test_a_list_that_is_stopped_leaves_the_one_before(desk: Desk, rows: list[Demonstration]) -> None:
    run = run_named("hold", desk.runs, rows)
    lists, cursor = Sittings(desk.runs), {}
    held_out.start(desk, lists, cursor, run.name, 0, "probes", "all")
    desk.worker.call("go_on").result(60)
    until(lambda: Sittings(desk.runs).get(run.name, None, "probes"))
    held_out.start(desk, lists, cursor, run.name, 0, "probes", "all")
    [going] = lists.going
    lists.stop(desk.worker)
    with pytest.raises(WasStopped):
        going.call.result(60)
    said, table, _ = held_out.draw(lists, cursor, run.name, 0, "probes", "all")
    assert "It was stopped before it had finished" in said and "compare-wrong" not in said
    assert len(table["value"]["data"]) == 6 and not lists.going


def test_a_list_is_not_that_of_another_run_of_the_name(desk: Desk, rows: list[Demonstration]) -> None:
    run = run_named("colours", desk.runs, rows)
    lists = Sittings(desk.runs)
    lists.start(desk.worker, run.name, None, "probes").call.result(60)
    assert lists.get(run.name, None, "probes") is not None
    shutil.rmtree(run.path)
    run_named("colours", desk.runs, rows, started="2026-01-02T00:00:00+00:00")
    assert lists.get(run.name, None, "probes") is None
