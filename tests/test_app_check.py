"""The page Check: a check belongs to the server, and its verdict says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.desks import FAKE
from tests.waiting import until
from workbench.app import check, intake, receipts, status, teaching
from workbench.app.desk import Cursor, Desk
from workbench.errors import InputError, WorkbenchError
from workbench.evaluation import verdict
from workbench.evaluation.scoring import SCORERS
from workbench.events import Measure
from workbench.views.words import is_finished
from workbench.worker import Call, Worker

EVIL = "<img src=x onerror=alert(1)></script>\u202eabc"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """With examples, and a worker that was not started."""
    made = Desk.at(tmp_path / "runs", Worker(tmp_path / "runs", command=FAKE))
    intake.use_sample(made, "zorbic")
    return made


@pytest.fixture
def working(desk: Desk) -> Iterator[Desk]:
    desk.worker.start()
    yield desk
    desk.worker.close()


def result(word: str, base: float, teacher: float, rows: Any = ()) -> dict[str, Any]:
    measures = [{"value": v, "n": 50, "low": max(0.0, v - 0.1), "high": min(1.0, v + 0.1)} for v in (base, teacher)]
    advice = f"48 of 50 {EVIL}"
    return {
        **dict(zip(("base", "teacher"), measures, strict=True)),
        "verdict": word,
        "advice": advice,
        "seconds": 2.0,
        "costs": {"method": "sdft", "batch": 32, "step": 0.25, "measuring": 1.0, "before": 3.0},
        "rows": list(rows),
    }


def test_a_check_ends_in_a_verdict_that_outlives_a_restart(working: Desk) -> None:
    cursor: Cursor = {}
    check.poll(working, cursor)
    check.press(working, cursor, 50, "contains")
    assert working.tasks["check"].over.wait(60)
    said, verdict, meters, table = check.poll(working, cursor)
    assert verdict.count("Good to teach.") == 1 and "50 of 50" in verdict and "0 of 50 without." in verdict
    assert "100% (50 of 50" in meters and "0% (0 of 50" in meters and "steps takes about" in meters
    lines = table["value"]["data"]
    assert table["visible"] and len(lines) == 50
    assert "wrong: I do not" in lines[0][2] and "right: It is" in lines[0][3]
    assert check.poll(working, cursor)[1:] == [gr.skip()] * 3, "nothing is sent twice"
    restarted = Desk.at(working.runs, working.worker)
    assert check.everything(restarted)[1:] == check.everything(working)[1:]


def test_before_a_check_it_says_what_to_do(desk: Desk) -> None:
    assert check.everything(desk)[3]["visible"] is False, "an empty table says nothing"
    assert "Press the button" in check.verdict_html(desk)
    desk.drafts.replace_rows([], "none")
    assert "First choose examples" in check.verdict_html(desk)
    assert "There are no examples" in check.press(desk, {}, 50, "contains")[0]


def test_a_scorer_that_there_is_not_is_refused_before_it_is_chosen(desk: Desk) -> None:
    assert set(check.SCORERS) == set(SCORERS), "whatever a program may choose the page can show"
    with pytest.raises(InputError, match="no scorer 'zz'"):
        check.start(desk, 5, "zz")
    assert desk.drafts.choices.scorer == "contains"
    desk.drafts.choose(scorer="zz")  # of an older version
    assert check._known(desk.drafts.choices.scorer) == "contains" and check._known("says") == "says"


def test_an_old_verdict_is_said_to_be_old(desk: Desk) -> None:
    desk.drafts.set_check(result("ready", 0.0, 0.96))
    assert "changed since" not in check.verdict_html(desk)
    desk.drafts.delete(0)
    assert "changed since" in check.verdict_html(desk)


def test_a_verdict_is_that_of_the_model_that_was_asked(working: Desk) -> None:
    assert check.run_check(working, 50, "contains")["model"] == "pocket"
    assert "Good to teach" in check.verdict_html(working) and status.steps(working)[1][1:] == ("ready to teach", True)
    working.worker.call("load", model="other").result(60)
    until(lambda: working.worker.status.model == "other")
    assert "Another model was loaded since the last check of <bdi>pocket" in check.verdict_html(working)
    assert status.steps(working)[1][1:] == ("another model was loaded since", False)
    working.worker.call("load", model="pocket").result(60)
    until(lambda: working.worker.status.model == "pocket")
    assert "Good to teach" in check.verdict_html(working)


@pytest.mark.parametrize(("word", "help_"), [("weak", "come first below"), ("cannot", "on the page Model")])
def test_a_poor_verdict_says_what_to_do(desk: Desk, word: str, help_: str) -> None:
    desk.drafts.set_check(result(word, 0.1, 0.2))
    html = check.verdict_html(desk)
    assert help_ in html and f"verdict-{word}" in html
    advice = verdict(Measure(0.1, 50, 0.05, 0.2), Measure({"weak": 0.7, "cannot": 0.1}[word], 50, 0.05, 0.8))[1]
    desk.drafts.set_check({**result(word, 0.1, 0.2), "advice": advice})
    html = check.verdict_html(desk)
    for once in ("stronger model", "teach by SFT", "example answer its question"):
        assert html.count(once) <= 1, "nothing is advised twice"
    for base, told in ((1.0, False), (0.7, False), (0.69, True)):
        # The teacher may be better yet: what decides is what the verdict goes by.
        found = verdict(Measure(base, 50, base - 0.1, base), Measure(1.0, 50, 0.9, 1.0))
        desk.drafts.set_check({**result("weak", base, 1.0), "advice": found[1]})
        assert ("come first below" in check.verdict_html(desk)) is told, (
            "help with examples that the model knows already"
        )
        assert ("can do most of this already" in check.verdict_html(desk)) is not told


def test_the_time_of_teaching_follows_the_settings(desk: Desk) -> None:
    desk.drafts.set_check(result("ready", 0.0, 0.96))
    desk.drafts.set_setting("optim", "steps", 100)
    assert "for 100 steps takes about 30 s on this machine, at 0.25 s a step" in check.meters_html(desk)  # 3 + 25 + 3
    desk.drafts.set_setting("optim", "batch", 8)
    assert "about 10 s" in check.meters_html(desk)  # 3 + 100 * 0.25 / 4 + 3 = 12.25
    desk.drafts.choose(evaluate_every=1)
    assert "about 2 min" in check.meters_html(desk)
    desk.drafts.choose(method="sft")
    assert "check again for how long SFT takes" in check.meters_html(desk)
    desk.drafts.set_check({**result("ready", 0.0, 0.96), "costs": None, "cost_problem": f"Too little. {EVIL}"})
    assert "not known: Too little. &lt;img" in check.meters_html(desk)


def test_the_time_of_teaching_is_that_of_a_run_like_it(working: Desk) -> None:
    working.drafts.set_check(result("ready", 0.0, 0.96))
    working.drafts.set_setting("optim", "steps", 20)
    assert "at 0.25 s a step and with" in check.meters_html(working)
    made = teaching.start(working, "taught")
    until(lambda: is_finished(teaching.events_of(working, made)))
    # Its steps took .26 s each, of which no one waited.
    working.drafts.set_setting("optim", "steps", 100)
    working.drafts.set_setting("optim", "lr", 1e-5)
    assert "for 100 steps takes about 30 s on this machine, at 0.26 s a step as in run taught and with" in (
        check.meters_html(working)
    )
    for setting, value in ((("optim", "batch"), 8), (("rollout", "max_new_tokens"), 5)):
        working.drafts.set_setting(*setting, value)
        assert "as in run" not in check.meters_html(working)
        working.drafts.set_setting(*setting, None)
        assert "as in run" in check.meters_html(working)
    working.drafts.choose(method="sft")
    assert "check again for how long SFT takes" in check.meters_html(working)


def test_nothing_to_score_is_no_share(desk: Desk) -> None:
    desk.drafts.set_check({**result("weak", 0, 0), "base": None, "teacher": None})
    assert "cannot be measured" in check.meters_html(desk)


def test_texts_of_models_and_users_stay_texts(desk: Desk) -> None:
    row = {"id": EVIL, "question": EVIL, "answer": EVIL, "base": "x" * 100_000, "teacher": EVIL}
    desk.drafts.set_check(result("ready", 0.0, 1.0, [{**row, "base_right": False, "teacher_right": True}]))
    said, verdict, meters, table = check.everything(desk)
    html = said + verdict + meters
    assert "<img" not in html and "</script" not in html and "\u202e" not in html
    assert max(len(cell) for cell in table["value"]["data"][0]) < 600


def test_what_the_teacher_missed_comes_first(desk: Desk) -> None:
    row = {"id": "1", "answer": "a", "base": "b", "teacher": "c", "base_right": False}
    rows = [{**row, "question": f"{i}?", "teacher_right": i != 2} for i in range(4)]
    desk.drafts.set_check(result("ready", 0.0, 0.75, rows))
    assert [line[0] for line in check.table(desk)["data"]] == ["2?", "0?", "1?", "3?"]


def test_one_check_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call()
    monkeypatch.setattr(desk.worker, "call", lambda do, **_: call)
    task = check.start(desk)
    assert "Asking the model" in check.said(desk)
    call._add({"id": 1, "reply": "progress", "done": 25, "of": 50})
    assert "25 of 50" in check.said(desk)
    with pytest.raises(InputError, match="going on"):
        check.start(desk)
    call._add({"id": 1, "reply": "failed", "problem": EVIL, "advice": "Wait.", "input": False})
    assert task.over.wait(10)
    assert "note-wrong" in check.said(desk) and "<img" not in check.said(desk)
    assert desk.drafts.check is None
    check.start(desk)


def test_a_check_that_was_stopped_says_so_and_leaves_the_verdict_before(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, stop, again, asked = Call(), Call(), Call(), []
    calls = iter([call, stop, again])
    stop._add({"id": 2, "reply": "done", "result": {"was": "checking"}})
    monkeypatch.setattr(desk.worker, "call", lambda do, **_: asked.append(do) or next(calls))
    assert check.can_stop(desk)["interactive"] is False and check.press_stop(desk, {}) == "" and not asked
    desk.drafts.set_check({**result("ready", 0.0, 1.0), "of": desk.drafts.fingerprint()})
    task, cursor = check.start(desk), {}
    assert check.can_stop(desk)["interactive"] is True
    assert "Stopping" in check.press_stop(desk, cursor) and asked == ["check", "stop"]
    call._add({"id": 1, "reply": "progress", "done": 25, "of": 50})
    assert "Stopping" in check.poll(desk, cursor)[0]
    call._add({"id": 1, "reply": "failed", "problem": "It was stopped.", "advice": "Begin.", "stopped": True})
    assert task.over.wait(10)
    said = check.poll(desk, cursor)[0]
    assert "Stopped." in said and "note-info" in said and "note-wrong" not in said
    assert check.can_stop(desk)["interactive"] is False and "Good to teach." in check.verdict_html(desk)
    check.start(desk)
    assert "Asking the model" in check.said(desk)


def test_why_it_was_refused_is_shown_again_though_the_click_is_answered_last(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake.use_sample(desk, "zorbic")
    cursor: Cursor = {}
    number = receipts.begin(cursor, 0)
    check.poll(desk, cursor)
    check.press(desk, cursor, 50, "contains")
    assert desk.tasks["check"].over.wait(60)
    seen = []
    for _ in range(2):
        number = receipts.begin(cursor, number)
        seen.append(check.poll(desk, cursor)[0])
    assert seen[0] == seen[1] and "note-wrong" in seen[0]
    monkeypatch.setattr(check, "_AT_ONCE", 60)
    assert check.press(desk, cursor, 50, "contains") == [seen[0]], "the click itself says so, too"
    assert check.poll(desk, cursor)[0] == seen[0], "also when the same was said before"


def test_examples_changed_meanwhile_make_the_result_old(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call()
    monkeypatch.setattr(desk.worker, "call", lambda do, **_: call)
    task = check.start(desk)
    desk.drafts.delete(0)
    call._add({"id": 1, "reply": "done", "result": result("ready", 0.0, 1.0)})
    assert task.over.wait(10)
    assert "changed since" in check.verdict_html(desk)


@pytest.mark.parametrize("n", [0, -3, 5000])
def test_a_senseless_number_is_refused(desk: Desk, n: int) -> None:
    with pytest.raises(InputError, match="cannot be asked"):
        check.start(desk, n)


def test_a_worker_that_is_not_there_is_said(desk: Desk) -> None:
    check.press(desk, {}, 50, "contains")
    assert desk.tasks["check"].over.wait(10)
    assert isinstance(desk.tasks["check"].problem, WorkbenchError) and "note-wrong" in check.said(desk)


def test_the_endpoint_gives_the_whole_result(working: Desk) -> None:
    made = check.run_check(working, 20, "contains")
    assert made["verdict"] == "ready" and made["base"]["n"] == 20 and len(made["rows"]) == 20 and "of" not in made
    working.drafts.replace_rows([], "none")
    with pytest.raises(gr.Error, match="no examples"):
        check.run_check(working, 20, "contains")
