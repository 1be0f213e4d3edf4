"""The conversation on Compare: it goes on from an answer, and outlives a refresh, another tab and a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.desks import desk_at_rest
from workbench.app import answered, asking, conversing
from workbench.app.asking import Asked, Form
from workbench.app.desk import Desk
from workbench.app.questions import Question

HI = Asked(Question(({"role": "user", "content": "Hi."},)), {"student": "Hello.", "base": "What?"})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at_rest(tmp_path) as made:
        yield made


def test_a_conversation_goes_on_from_the_chosen_answer(desk: Desk) -> None:
    turns, html, emptied, _ = conversing.carry(desk, HI, "base", [])
    assert [t["content"] for t in turns] == ["Hi.", "What?"] and emptied == "" and "What?" in html
    assert "Write the next question at the top" in html
    assert conversing.carry(desk, HI, "teacher", [])[0] == []
    assert "conversation before it" not in list(asking.ask(desk, Form("And now?")))[-1].notice
    last = list(asking.ask(desk, Form("And now?", turns=turns)))[-1]
    assert "Asked with the conversation before it." in last.notice
    assert last.asked is not None
    assert [m["content"] for m in last.asked.question.messages] == ["Hi.", "What?", "And now?"]


def test_the_question_that_was_gone_on_from_does_not_come_back(desk: Desk) -> None:
    desk.drafts.type("compare.question", "Hi.")
    assert conversing.carry(desk, HI, "teacher", [])[2] != "" and desk.drafts.typed("compare.question") == "Hi."
    conversing.carry(desk, HI, "base", [])
    assert desk.drafts.typed("compare.question") == ""


def test_it_outlives_a_refresh_and_a_restart(desk: Desk, tmp_path: Path) -> None:
    said = conversing.carry(desk, HI, "base", [])
    again = Desk.at(tmp_path, desk.worker)
    turns, html, part = conversing.restore(again)
    assert turns == said[0] and html == said[1] and part["open"]
    conversing.start_over(again)
    assert conversing.kept(Desk.at(tmp_path, desk.worker)) == []


def test_an_answer_of_a_conversation_that_was_ended_does_not_bring_it_back(desk: Desk) -> None:
    turns, *_ = conversing.carry(desk, HI, "base", [])
    last = next(s.asked for s in reversed(list(asking.ask(desk, Form("And now?", turns=turns)))) if s.asked)
    assert len(conversing.carry(desk, last, "base", turns)[0]) == 4
    assert len(conversing.carry(desk, last, "teacher", [*turns, *turns])[0]) == 4, "another answer may be chosen"
    begun, *_ = conversing.start_over(desk)
    for asked in (last, asking.again(answered.kept(desk.drafts), "").asked):
        left, _, _, said = conversing.carry(desk, asked, "base", begun)
        assert left == [] and "you have ended" in said and conversing.kept(desk) == []


def test_another_tab_hears_of_it_once(desk: Desk) -> None:
    cursor: dict[str, Any] = {}
    conversing.poll(desk, cursor)
    assert conversing.poll(desk, cursor) == [asking.SAME] * 3
    conversing.carry(desk, HI, "student", [])
    turns, html, _ = conversing.poll(desk, cursor)
    assert turns[-1] == {"role": "assistant", "content": "Hello."} and "Hello." in html
    assert conversing.poll(desk, cursor) == [asking.SAME] * 3
    conversing.start_over(desk)
    assert conversing.poll(desk, cursor)[0] == []


def test_an_answer_whose_owner_is_not_there_leaves_what_was_said(desk: Desk) -> None:
    turns = conversing.carry(desk, HI, "base", [])[0]
    assert "There is no student" in conversing.carry(desk, Asked(HI.question, {"base": "b"}), "student", turns)[3]
    assert conversing.kept(desk) == turns


@pytest.mark.parametrize("held", ["{", "3", '["a"]', '[{"role": "user"}]', "null"])
def test_a_damaged_one_is_none(desk: Desk, held: str) -> None:
    desk.drafts.type("compare.turns", held)
    assert conversing.restore(desk)[0] == []


def test_what_was_said_is_text(desk: Desk) -> None:
    evil = "<img src=x onerror=alert(1)></script>\u202e"
    desk.drafts.type("compare.turns", json.dumps([{"role": evil, "content": evil}]))
    html = conversing.restore(desk)[1]
    assert "<img" not in html and "</script>" not in html and "onerror" in html
