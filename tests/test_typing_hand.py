"""What is being typed into the form of Teach is not given back to it before the hand is still."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tests.desks import desk_at_rest
from workbench.app import choosing, fields, teach
from workbench.app.desk import Cursor

KEYS = [("optim", "batch"), ("lora", "rank")]


def test_a_field_is_given_back_once_the_hand_is_still(tmp_path: Path) -> None:
    def given(cursor: Cursor) -> list[Any]:
        return [value for value in teach.poll_form(desk, KEYS, cursor) if not isinstance(value, dict)]

    here, other = {}, {}
    with desk_at_rest(tmp_path / "runs") as desk:
        type_steps = partial(choosing.enter, partial(choosing.set_one, desk, ("optim", "steps")), "form", here)
        assert given(here) == given(other) != []
        assert type_steps(3) == "" and fields.shown(desk, ("optim", "steps")) == 3
        assert given(other) == [3] and given(here) == []
        assert type_steps(32) == "" and given(here) == given(here) == []
        assert given(here) == [32], "should an answer from before have brought the 3"
        assert given(here) == []
        assert "0" in type_steps(0) and "note-wrong" in type_steps(0)
        assert [given(here) for _ in range(3)] == [[], [], []], "what was refused stands there with its reason"
