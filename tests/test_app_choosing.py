"""What is entered on Teach is taken, or said to be wrong beside its field."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.desks import desk_at_rest
from workbench.app import choosing, fields, teach, teaching
from workbench.app.desk import Cursor, Desk
from workbench.app.fields import Key
from workbench.errors import InputError

BATCH, RATE, RANK = ("optim", "batch"), ("optim", "warmup"), ("lora", "rank")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at_rest(tmp_path) as made:
        yield made


def test_what_is_wrong_stays_beside_its_field_until_it_is_put_right(desk: Desk) -> None:
    cursor = Cursor()
    setters = {key: partial(choosing.set_one, desk, key) for key in (BATCH, RATE, RANK)}

    def entered(key: Key, value: float) -> str:
        return choosing.enter(setters[key], key[0], cursor, value)

    assert "Batch is 0" in entered(BATCH, 0)
    assert "Batch is 0" in entered(RATE, 3), "a right value of another field does not mend this one"
    said = entered(RANK, -1)
    assert "LoRA rank is -1" in said and "Batch" not in said, "another group has a place of its own"
    assert "Batch is -2" in entered(BATCH, -2) and "Batch is 0" not in entered(RATE, 2)
    assert entered(BATCH, 8) == "" and fields.shown(desk, BATCH) == 8
    assert "LoRA rank" in entered(RANK, 0) and entered(RANK, 4) == ""


def test_all_settings_go_back_to_the_usual_ones_and_what_they_were_is_said(desk: Desk) -> None:
    cursor = Cursor()
    usual = {key: fields.shown(desk, key) for key in (BATCH, RANK)}
    choosing.put(desk, {BATCH: 4, RANK: 2})
    choosing.set_every(desk, 7, 50)
    choosing.set_limit(desk, 25)
    choosing.enter(partial(choosing.set_one, desk, RANK), "lora", cursor, -1)
    desk.drafts.choose(method="sft")
    said, *rest = teach.press_usual(desk, [BATCH, RANK], cursor)
    assert "Batch 4" in said and "LoRA rank 2" in said and "Measure every 7" in said and "Save" not in said
    assert rest[:3] == ["", "", ""], "no error is left at the top of Advanced nor in its two groups"
    assert rest[-3:] == [usual[BATCH], usual[RANK], teaching.LIMIT] and desk.drafts.choices.evaluate_every == 50
    assert desk.drafts.settings == {} and desk.drafts.method == "sft"
    assert "All settings are as usual.<" in teach.press_usual(desk, [BATCH, RANK], cursor)[0]
    assert choosing.enter(partial(choosing.set_one, desk, BATCH), "lora", cursor, 5) == "", "no old error comes again"


@pytest.mark.parametrize("points", [-5, 101, None, "many"])
def test_a_limit_that_retention_cannot_fall_by_is_refused(desk: Desk, points: object) -> None:
    choosing.set_limit(desk, 30)
    with pytest.raises(InputError, match="0 to 100 points"):
        choosing.set_limit(desk, points)
    assert teaching.limit(desk) == 30
    choosing.set_limit(desk, 0)
    assert teaching.limit(desk) == 0
