"""Stopping one command and no other: a question, a list of questions, whatever else goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.inside import LIMIT, QUESTION, Inside
from tests.waiting import until
from workbench.demonstrations import Demonstration
from workbench.worker import WasStopped
from workbench.worker.client import Call

SETTINGS = {"optim": {"steps": 8, "batch": 6, "lr": 1e-3}, "rollout": {"max_new_tokens": 8}}


def ask(inside: Inside, longest: int = 200) -> Call:
    return inside.call("ask", messages=QUESTION, roles=["base"], longest=longest, temperature=1.0)


def test_a_question_under_way_ends_and_the_one_behind_it_is_answered(inside: Inside) -> None:
    behind: list[Call] = []

    def stop(reply: dict[str, Any]) -> None:
        if reply["reply"] == "token" and reply["id"] == 1 and not behind:
            behind.append(ask(inside, longest=4))
            inside.call("stop", of=1)
            until(lambda: inside.service._ended == 1)

    inside.watch.append(stop)
    first = ask(inside)
    with pytest.raises(WasStopped):
        first.result(LIMIT)
    assert behind[0].result(LIMIT)["answers"]["base"][0]["tokens"] <= 4


def test_a_question_that_waits_is_never_begun(inside: Inside) -> None:
    behind: list[Call] = []

    def stop(reply: dict[str, Any]) -> None:
        if reply["reply"] == "token" and reply["id"] == 1 and not behind:
            behind.append(ask(inside))
            until(lambda: inside.service._short)
            inside.call("stop", of=behind[0].number)
            until(lambda: not inside.service._short)

    inside.watch.append(stop)
    first = ask(inside, longest=12)
    assert first.result(LIMIT)["answers"]["base"][0]["text"]
    with pytest.raises(WasStopped):
        behind[0].result(LIMIT)
    assert [reply["reply"] for reply in behind[0].replies] == ["failed"]


def test_a_run_that_is_taught_meanwhile_goes_on(inside: Inside, rows: list[Demonstration]) -> None:
    asked: list[Call] = []

    def step_in(reply: dict[str, Any]) -> None:
        if reply["reply"] == "status" and reply["phase"] == "Teaching" and not asked:
            asked.append(ask(inside))
        elif len(asked) == 1 and reply["id"] == asked[0].number:
            inside.call("stop", of=asked[0].number)
            if reply["reply"] == "token":
                until(lambda: inside.service._ended == asked[0].number)
            else:  # it is over, so that nothing is stopped; what is asked after that is answered after that
                asked.append(ask(inside, longest=4))

    inside.watch.append(step_in)
    taught = inside.do("teach", name="on", rows=[row.to_dict() for row in rows], settings=SETTINGS)
    assert taught == {"run": "on", "state": "finished", "step": 8}
    with pytest.raises(WasStopped):
        asked[0].result(LIMIT)
    assert asked[1].result(LIMIT)["answers"]["base"]
    assert "stopping" not in {status["state"] for status in inside.status}


def test_a_list_of_questions_ends_and_another_one_does_not(inside: Inside, rows: list[Demonstration]) -> None:
    inside.do("teach", name="r", rows=[row.to_dict() for row in rows], settings=SETTINGS)
    over = inside.call("sit", run="r")
    assert over.result(LIMIT)["rows"]
    meant: list[int] = []  # what is stopped at the beginning of the next list

    def stop(reply: dict[str, Any]) -> None:
        if meant and reply.get("done") == 0:
            inside.call("stop", of=meant[0])
            assert meant[0] == over.number or inside.service._stop.wait(LIMIT)

    inside.watch.append(stop)
    meant.append(over.number)
    assert inside.do("sit", run="r")["rows"]
    meant[:] = [len(inside.calls) + 1]
    with pytest.raises(WasStopped):
        inside.do("sit", run="r")
    assert inside.do("stop") == {"was": "idle"}
