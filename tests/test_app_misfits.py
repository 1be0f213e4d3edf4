"""Rows that the loaded model cannot read whole are marked beside the others that are wrong, and left out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.desks import FAKE, desk_at_rest
from tests.waiting import until
from workbench import POCKET, load
from workbench.app import check, examples, fixing, misfits, rows, sheet, teaching
from workbench.app.desk import Cursor, Desk
from workbench.demonstrations.lenient import row_from
from workbench.errors import InputError
from workbench.prompts import Prompts
from workbench.worker import Worker

LONG = "Why " * 40 + "?"
SHORT = [{"prompt": f"What is {i}?", "demonstration": f"It is {i}.", "answer": str(i)} for i in range(9)]
ROWS: list[dict[str, Any]] = [*SHORT, {"prompt": LONG, "demonstration": "So.", "answer": "So"}]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Over a worker that can read a hundred characters."""
    monkeypatch.setenv("FAKE_LONGEST", "100")
    with desk_at_rest(tmp_path) as made:
        yield made


def test_what_does_not_fit_is_said_row_by_row_as_the_refusal_of_all_has_it() -> None:
    model = load(POCKET)
    prompts = Prompts(model.tokenizer)
    words = "red ball " * 60
    asked = [
        {"prompt": "What is red ball in Zorbic?", "demonstration": "mipa"},
        {"prompt": "What?", "demonstration": words},
        {"prompt": words, "demonstration": "mipa"},
        {"prompt": f"What is {model.tokenizer.eos_token}?", "demonstration": "mipa"},
    ]
    made = [row_from(row) for row in asked]
    limit = len(prompts.tokenise(made[0]).teacher) + 20
    found = prompts.misfits(made, limit, 20)
    assert set(found) == {1, 2, 3}
    shown, alone = len(prompts.tokenise(made[1]).teacher), len(prompts.tokenise(made[2]).student)
    assert found[1].startswith(f"The question with what the teacher is shown has {shown} tokens; the limit is "), found
    assert found[2].startswith(f"The question has {alone} tokens; the limit is {limit - 20} "), found
    assert model.tokenizer.eos_token in found[3]
    prompts.tokenise_all(made[:1], limit, 20)
    for row in made[1:]:
        with pytest.raises(InputError):
            prompts.tokenise_all([row], limit, 20)


def test_prompt_and_example_may_be_too_long_together() -> None:
    model = load(POCKET)
    prompts = Prompts(model.tokenizer)
    # The teacher reads the article alone, so that its prompt is short.
    row = row_from({"prompt": "What?", "demonstration": "red ball " * 40, "context": "A ball."})
    tokens = prompts.tokenise(row)
    assert tokens.target is not None
    whole = len(tokens.student) + len(tokens.target)
    said = prompts.misfits([row], whole - 1, 8)[0]
    assert said == f"The question and its example have {whole} tokens; the model reads {whole - 1} at most."
    assert prompts.misfits([row], whole, 8) == {}


def test_a_row_that_is_too_long_stands_beside_its_problem_and_is_left_out(desk: Desk) -> None:
    sheet.attempt(desk, lambda: desk.drafts.replace_rows(ROWS, "mine") or "Done.")
    assert desk.drafts.problems == {9: "It is too long."}
    assert [row.prompt for row in desk.drafts.good] == [row["prompt"] for row in SHORT]
    assert "1 of 10 rows is wrong and left out" in sheet.summary(desk)
    assert [line[1] for line in rows.lines(desk.drafts, 1, True)] == ["It is too long."]
    student, _, told = fixing.prompts(desk, 10)
    assert LONG in student and "Row 10 is left out. It is too long." in told
    desk.drafts.edit(9, {**ROWS[9], "prompt": "Why?"})
    assert desk.drafts.problems == {}


def test_teaching_and_checking_go_on_without_it_unless_wrong_rows_block_the_others(desk: Desk) -> None:
    desk.drafts.replace_rows(ROWS, "mine")
    task = check.start(desk)
    assert task.over.wait(30) and task.problem is None
    assert desk.drafts.problems == {9: "It is too long."}
    desk.drafts.choose(strict=True)
    with pytest.raises(InputError, match="1 of 10 rows is wrong"):
        teaching.start(desk)
    desk.drafts.choose(strict=False)
    name = teaching.start(desk)
    until(lambda: teaching.is_there(desk, name))
    taught = [*desk.run(name).rows("teaching"), *desk.run(name).rows("held-out")]
    assert {row.prompt for row in taught} == {row["prompt"] for row in SHORT}


def test_the_mark_comes_by_itself_once_a_model_is_there_and_goes_with_another_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_LONGEST", "100")
    desk, cursor = Desk.at(tmp_path, Worker(tmp_path, POCKET, FAKE)), Cursor()
    desk.drafts.replace_rows(ROWS, "mine")
    before = examples.poll(desk, cursor)
    assert desk.drafts.problems == {} and "10 examples" in before[0]
    desk.worker.start()
    try:
        desk.worker.wait(lambda status: status.state == "idle", 30)
        shown: list[Any] = []

        def polled() -> bool:
            shown[:] = examples.poll(desk, cursor)
            return bool(desk.drafts.problems)

        until(polled)
        assert "1 of 10 rows is wrong" in shown[0] and shown[1] != before[1], "the table is drawn anew"
        asked: list[str] = []
        call = desk.worker.call
        monkeypatch.setattr(desk.worker, "call", lambda do, **more: asked.append(do) or call(do, **more))
        examples.poll(desk, cursor)
        desk.drafts.add({"prompt": "What is 10?", "demonstration": "It is 10."})
        misfits.count(desk)
        assert asked == ["fit"], "only what is new is counted"
        desk.drafts.set_setting("rollout", "max_new_tokens", 7)
        misfits.count(desk)
        assert asked == ["fit", "fit"], "with other settings all of it is"
    finally:
        desk.worker.close()


def test_without_a_model_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk.at(tmp_path, Worker(tmp_path, POCKET, FAKE))
    monkeypatch.setattr(desk.worker, "call", lambda *_, **__: pytest.fail("no worker is there to be asked"))
    desk.drafts.replace_rows(ROWS, "mine")
    misfits.count(desk)
    assert len(desk.drafts.good) == 10


def test_a_poll_does_not_wait_for_a_count_that_somebody_waits_for(desk: Desk) -> None:
    misfits.count(desk)
    with desk.tasks["misfits"].lock:
        poll = threading.Thread(target=misfits.count, args=(desk,), kwargs={"patience": 0}, daemon=True)
        poll.start()
        poll.join(30)
        assert not poll.is_alive()
