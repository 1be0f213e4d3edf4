"""What was entered on Compare and not asked yet: a refresh and a restart show it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.app import entered
from workbench.app.asking import SAME
from workbench.app.drafts import Draft


def test_what_the_teacher_is_to_be_shown_stays_with_its_question(tmp_path: Path) -> None:
    draft = Draft(tmp_path)
    draft.type("compare.question", "Red?")
    assert entered.shown(draft, "") == [SAME] * 3
    entered.keep_shown(draft, "Red?", "Red is mipa, I think.", ("Red?", "Red is mipa."))
    again = Draft(tmp_path)
    text, filled, note = entered.shown(again, "")
    assert (text, filled) == ("Red is mipa, I think.", ("Red?", "Red is mipa."))
    assert "Written by you." in note
    again.type("compare.question", "Blue?")
    assert entered.shown(again, "") == [SAME] * 3, "it belongs to the other question"


def test_a_field_that_was_emptied_stays_empty(tmp_path: Path) -> None:
    draft = Draft(tmp_path)
    draft.type("compare.question", "Red?")
    entered.keep_shown(draft, "Red?", "", ("Red?", "Red is mipa."))
    assert entered.shown(draft, "zorbic")[:2] == ["", ("Red?", "Red is mipa.")]


def test_how_answers_are_drawn_is_kept(tmp_path: Path) -> None:
    draft = Draft(tmp_path)
    assert entered.drawn(draft) == [SAME] * 5
    entered.keep_drawn(draft, 0.7, 0.9, 5, None, 30)
    assert entered.drawn(Draft(tmp_path)) == [0.7, 0.9, 5, SAME, 30]


@pytest.mark.parametrize("held", ["{", "3", "[1, 2]", '["a", "b", "c", "d", "e"]', "null", '["Red?", 1, []]'])
def test_what_is_damaged_is_left_out(tmp_path: Path, held: str) -> None:
    draft = Draft(tmp_path)
    draft.type("compare.question", "Red?")
    for key in ("compare.shown", "compare.drawn"):
        draft.type(key, held)
    assert entered.shown(draft, "") == [SAME] * 3 and entered.drawn(draft) == [SAME] * 5
