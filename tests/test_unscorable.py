"""Answers that a scorer could never find: refused with their rows, before a folder is made or a model asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.inside import Inside
from tests.test_worker import lesson  # noqa: F401
from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.evaluation import SCORERS, refuse_unscorable

CALL = '[{"Action": "find", "Action_Input": "{}"}]'


def rows(*answers: str | None) -> list[Demonstration]:
    return [Demonstration(f"Question {i}?", "So.", answer) for i, answer in enumerate(answers, 1)]


@pytest.mark.parametrize(
    ("scorer", "wrong", "looks"),
    [
        ("number", "gikila vape", "a number"),
        ("json", "gikila vape", "a JSON value"),
        ("json", '{"a": 1', "a JSON value"),
        ("json", "NaN", "a JSON value"),
        ("answer-tag", "<answer>B</answer>", "without the tags"),
        ("tool-calls", "gikila vape", "a JSON list of calls"),
        ("tool-calls", "[1", "a JSON list of calls"),
        ("tool-calls", "{}", "a JSON list of calls"),
        ("tool-calls", "7", "a JSON list of calls"),
        ("tool-calls", '["find"]', "a JSON list of calls"),
        ("tool-calls", '[{"Action_Input": "{}"}]', "a JSON list of calls"),
        ("tool-calls", '[{"Action": "get-user"}]', "is one word"),
        ("says", "?!", "a word"),
        ("half-says", '["?!", "-"]', "a word"),
    ],
)
def test_what_can_never_be_right_is_refused_and_what_is_asked_for_is_said(scorer: str, wrong: str, looks: str) -> None:
    right = {"tool-calls": CALL}.get(scorer, "12")
    with pytest.raises(InputError) as failed:
        refuse_unscorable(rows(right, None, wrong, right), scorer)
    assert failed.value.problem.startswith("1 of 3 answers") and f"row 3 ({wrong!r})" in failed.value.problem
    assert scorer in failed.value.problem and looks in failed.value.advice


@pytest.mark.parametrize(
    ("scorer", "right"),
    [
        *((scorer, "gikila vape") for scorer in ("contains", "exact", "choice", "answer-tag", "says", "half-says")),
        *(("number", said) for said in ("12", "12 km (7.5 miles)", "(12)", "about \u22125", ".5")),
        *(("json", said) for said in ("12", ' {"a": [1, true]} ', '"red"', "null", "-1.5e3", '"D\\u00e9nver"')),
        *(("tool-calls", said) for said in (CALL, "[]", '[{"Action": "ping"}]')),
        *(("says", said) for said in ('["D\\u00e9nver"]', "[1 or so", '["?", "a"]', "the")),
        ("choice", "B (because A) is a stone)"),
    ],
)
def test_what_can_be_right_is_let_through(scorer: str, right: str) -> None:
    refuse_unscorable(rows(right, None), scorer)


def test_rows_are_named_by_what_they_are_called_and_many_are_counted() -> None:
    many = [*rows("12"), *(Demonstration("a", "b", "x" * 60, id=f"z-{i}") for i in range(9))]
    kept = Demonstration("a", answer="red", keep=True)
    with pytest.raises(InputError) as failed:
        refuse_unscorable([kept, *many], "number")
    said = failed.value.problem
    assert said.startswith("9 of 10 answers ") and "row z-0 (" in said and " and 6 more" in said
    assert "x" * 60 not in said
    with pytest.raises(InputError, match="no scorer 'best'"):
        refuse_unscorable([], "best")
    refuse_unscorable([kept], "number")
    assert {"says", "json"} <= set(SCORERS)


def test_the_worker_refuses_before_it_does_anything(inside: Inside, tmp_path: Path, lesson: dict[str, Any]) -> None:  # noqa: F811
    for do, more in (("teach", {**lesson, "name": "a"}), ("check", {"rows": lesson["rows"]})):
        with pytest.raises(InputError) as failed:
            inside.do(do, **more, scorer="tool-calls")
        assert "12 of 12 answers" in failed.value.problem and "a JSON list of calls" in failed.value.advice
    assert not list((tmp_path / "runs").glob("*"))
