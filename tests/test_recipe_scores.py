"""The scores of the paper's recipes: answer tags, tool calls, stated facts, a judge's verdict."""

from __future__ import annotations

import json

import pytest

from workbench.evaluation import get_scorer
from workbench.recipes.judging import verdict


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("<reasoning>A or B</reasoning>\n<answer>B</answer>", True),
        ("<answer>A</answer> no: <answer> B </answer>", True),
        ("<answer>B", True),
        ("B", True),
        ("The answer is B.", False),
        ("<answer>B.</answer>", False),
        ("<answer>b</answer>", False),
        ("", False),
    ],
)
def test_answer_tag(completion: str, right: bool) -> None:
    assert get_scorer("answer-tag")(completion, "B") is right


CALLS = json.dumps(
    [
        {"Action": "find", "Action_Input": '{"a": {"b": 1}}'},
        {"Action": "send", "Action_Input": '{"to": "x", "now": true}'},
    ]
)


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ('Action: find\nAction Input: {"a": {"b": 1}}\nAction: send\nAction Input: {"now": true, "to": "x"}', True),
        ('Action: send\nAction Input: {"to": "x", "now": true}\nAction: find\nAction Input: {"a":{"b":1.0}} ok', True),
        ('Action: find\nAction Input: {"a": {"b": 2}}\nAction: send\nAction Input: {"now": true, "to": "x"}', False),
        ('Action: find\nAction Input: {"a": {"b": 1}}\nAction: send\nAction Input: {"now": 1, "to": "x"}', False),
        ('Action: find\nAction Input: {"a": {"b": 1}}', False),
        ('Action: find\nAction: find\nAction: send\nAction Input: {"a": {"b": 1}, "now": true, "to": "x"}', False),
        ('Action: find\nAction: send\nAction Input: {"a": {"b": 1}, "now": true, "to": "x"', False),
        ("", False),
    ],
)
def test_tool_calls(completion: str, right: bool) -> None:
    assert get_scorer("tool-calls")(completion, CALLS) is right


def test_a_call_without_inputs_is_matched_by_one_without() -> None:
    calls = json.dumps([{"Action": "ping", "Action_Input": "{}"}])
    assert get_scorer("tool-calls")("Action: ping\nAction Input: {}", calls)
    assert get_scorer("tool-calls")("Action: ping", calls)
    assert not get_scorer("tool-calls")("Action: ping\nAction Input: none", calls)


def test_inputs_of_a_call_may_be_text_or_an_object() -> None:
    calls = json.dumps([{"Action": "find", "Action_Input": {"a": True}}])
    assert get_scorer("tool-calls")('Action: find\nAction Input: {"a": true}', calls)
    assert not get_scorer("tool-calls")('Action: find\nAction Input: {"a": 1}', calls)


DEEP = '{"a":' * 700 + "1" + "}" * 700


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        *(
            ("Action: find\nAction Input: {}", one)
            for one in ("ten", "[1", "{}", "7", "null", '["find"]', "[" * 100_000)
        ),
        ("", '[{"Action_Input": "{}"}]'),
        ("Action: find\nAction Input: " + '{"a":' * 100_000, CALLS),
        (
            f"Action: find\nAction Input: {DEEP}",
            json.dumps([{"Action": "find", "Action_Input": DEEP.replace("1", "2")}]),
        ),
    ],
    ids=lambda text: text[:30],
)
def test_calls_that_cannot_be_read_are_not_right(completion: str, answer: str) -> None:
    assert get_scorer("tool-calls")(completion, answer) is False


@pytest.mark.parametrize(
    ("completion", "strict", "lenient"),
    [
        ("It was the Denver Broncos!", True, True),
        ("the horses of Dénver", False, True),
        ("the broncos", True, True),
        ("Denverbroncos", False, False),
        ("The", False, False),
        ("", False, False),
    ],
)
def test_says(completion: str, strict: bool, lenient: bool) -> None:
    answer = json.dumps(["Denver Broncos", "The Broncos"])
    assert get_scorer("says")(completion, answer) is strict
    assert get_scorer("half-says")(completion, answer) is lenient


def test_says_takes_plain_answers_and_odd_ones() -> None:
    assert get_scorer("says")("about [1 or so", "[1") and get_scorer("says")("it is 4.5 km", "4.5 km")
    assert not get_scorer("says")("anything", "?!") and not get_scorer("half-says")("anything", "")


def test_the_judge_s_verdict_is_its_first_word_of_the_two() -> None:
    assert verdict("CORRECT") and verdict(" correct.") and verdict("Verdict: Correct, not incorrect")
    assert (
        not verdict("INCORRECT") and not verdict("incorrect (not CORRECT)") and not verdict("") and not verdict("yes")
    )
