"""Scorers, intervals and verdicts, on values worked out by hand."""

from __future__ import annotations

import pytest

from workbench.errors import InputError
from workbench.evaluation import SCORERS, get_scorer, measure, share, verdict
from workbench.evaluation.scoring import contains, json_value, number
from workbench.events import Measure

CASES = [
    ("contains", "In Zorbic, red ball is mipa tolu.", "mipa tolu", True),
    ("contains", "In Zorbic, red ball is mipa tolus.", "mipa tolu", False),
    ("contains", "It is MIPA\n  Tolu!", "mipa tolu", True),
    ("contains", "The sum is 17.", "7", False),
    ("contains", "The sum is 7.", "7", True),
    ("contains", 'Call convert(3, "km", "m") now.', 'convert(3, "km", "m")', True),
    ("contains", "unconvert(3)", "convert(3)", False),
    ("contains", "Der Preis: 5€.", "5€", True),
    ("contains", "caf\u0065\u0301", "caf\u00e9", True),
    ("contains", "首都は東京です", "東京", True),
    ("contains", "anything", " ", False),
    # Digits that a point or a comma joins are one number.
    *(
        ("contains", said, answer, False)
        for said, answer in [
            *(("It is 3.5", "5"), ("5.25", "5"), ("129.29", "29"), ("It boils at 100.5", "100"), ("1,500 m", "500")),
            *(("1,042 euros", "1"), ("It is .5", "5"), ("3.5", ".5"), ("See 7.5", "7."), ("1.500.000", "500")),
            *(("1,500.25", "1,500"), ("3.5 km", "5 km"), ("3.11.2", "11"), ("room 5.25", "room 5")),
        ]
    ),
    *(
        ("contains", said, answer, True)
        for said, answer in [
            *(("It is 7.", "7"), ("7, 8", "7"), ("7, 8", "8"), ("7,8", "7,8"), ("So 3.5.", "3.5"), ("1,500", "1,500")),
            *(("See fig.5", "5"), ("Well...5", "5"), ("It is .5", ".5"), ("3.5, then 5", "5"), ("5/3", "5")),
            *(("Am 20.7.1969.", "1969"), ("am 20.7.1969", "20.7.1969"), ("20.7.1969, 3", "20"), ("2024-05-12", "12")),
        ]
    ),
    # A minus behind a letter or a digit joins; any other is a sign.
    *(
        ("contains", said, answer, False)
        for said, answer in [
            *(("The answer is -42.", "42"), ("-42", "42"), ("\u221242", "42"), ("x=-5", "5"), ("(-5)", "5")),
            *(("3-5", "-5"), ("Apollo-11", "-11"), ("-.5", ".5"), ("答えは-5", "5"), ("-1,500", "1,500")),
        ]
    ),
    *(
        ("contains", said, answer, True)
        for said, answer in [
            *(("-42", "-42"), ("It is \u221242.", "-42"), ("It is -42.", "\u221242"), ("-.5", "-.5"), ("1 - -2", "-2")),
            *(("3-5", "5"), ("3-5", "3"), ("3\u22125", "5"), ("Apollo-11", "11"), ("- 42", "42"), ("10 - 3", "3")),
        ]
    ),
    ("exact", "\u22125", "-5", True),
    ("exact", " Mipa  tolu ", "mipa tolu", True),
    ("exact", "mipa tolu.", "mipa tolu", False),
    ("choice", "The answer is B) moss.", "B", True),
    ("choice", "A) fire is wrong, B) moss is right. The answer is B.", "B) moss", True),
    ("choice", "B", "B", True),
    ("choice", "I think it is (C).", "B", False),
    ("choice", "First I thought A. My answer: C", "C", True),
    ("choice", "A bad day", "A", False),
    # The article is no choice, and neither is the pronoun.
    ("choice", "The answer is a bit long", "A", False),
    ("choice", "My answer: I think it is (C).", "C", True),
    ("choice", "The answer is a bit long, but it is B.", "B", True),
    ("choice", "I answer a question. The answer's long.", "A", False),
    ("choice", "My answers are few: B", "B", True),
    ("choice", "An option b-side", "B", False),
    *(
        ("choice", said, "A", True)
        for said in [
            *("A", "a", "A)", "a)", "(A)", "(a)", "A.", "a.", "A:", "**A**", "[A]", "a) moss", "a. moss", "(a) moss"),
            *(
                "The answer is A",
                "The answer is a",
                "the answer is a.",
                "The answer is (a).",
                "The answer is: A",
                "ANSWER: A",
            ),
            *("Answer: a", "The answer is **A** moss", "The answer is A because it is green", "The answer's A."),
            *("the answer is a, since it is green", "Option a is right", "The answer is option A", "It is A."),
            *("A\nIt is green, as mosses are", r"So \boxed{A}", "The answer would be A.", 'I choose "A"'),
            *(
                "The correct option is (A) moss, not a stone",
                "B is wrong. The answer is A",
                "The answer is a and not b",
            ),
        ]
    ),
    # The answer's cell may carry the words of the choice, or a note.
    *(
        ("choice", "I would say B.", cell, True)
        for cell in ("B", "b", " (b) ", "B) moss", "b. moss", "B (because A) is a stone)", "B because A is a stone")
    ),
    ("choice", "I would say B.", "B - not A.", True),
    ("choice", "I would say B.", "The answer is B", True),
    ("choice", "I would say A.", "B (because A) is a stone)", False),
    ("choice", "A bird sings", "A bird", True),
    ("number", "It is 12", "12 km", True),
    ("number", "It is 12", "12 km (about 7.5 miles)", True),
    ("number", "It is 7.5", "12 km (about 7.5 miles)", False),
    ("number", "It is 12", "(12)", True),
    ("number", "It is 12 km²", "12 km²", True),
    ("number", "It is 13 km²", "12 km²", False),
    ("number", "It is 12", "5 + 7 = 12 [see page 3]", True),
    ("number", "The total is 1,000 apples.", "1000", True),
    ("number", "3 plus 4 is 7", "7.0", True),
    ("number", "7 is 3 plus 4", "7", False),
    ("number", "minus: -2", "-2", True),
    ("number", "It is 7-8", "8", True),
    ("number", "On 2024-05-12", "12", True),
    ("number", "1 - -2", "-2", True),
    ("number", "none", "2", False),
    ("number", "12 km (7.5 miles)", "12 km (7.5 miles)", True),
    ("number", "It is 12 km (7.5 miles).", "12", True),
    ("number", "7.5 miles (12 km)", "12 km (7.5 miles)", True),
    ("number", r"3 + 9 = \(12\)", "12", True),
    ("number", "13 km (7.5 miles)", "12 km (7.5 miles)", False),
    ("number", "The answer is \u22125", "-5", True),
    ("number", "The answer is \u22125", "5", False),
    ("number", "The answer is -5", "\u22125", True),
    ("number", "7\u22128", "8", True),
    ("number", "It was Apollo-11", "11", True),
    ("number", "It was Apollo\u221211", "11", True),
    ("number", "答えは-5", "-5", True),
    ("json", 'Here: ```json\n{"b": [1, {"c": 2}], "a": 1}\n```', '{"a": 1, "b": [1, {"c": 2}]}', True),
    ("json", '{"a": 1}', '{"a": 2}', False),
    ("json", "{not json} then [1, 2]", "[1, 2]", True),
    ("json", "1", "true", False),
    # A number, a text and a word are read to their end, so that none is found inside another.
    *(
        ("json", said, answer, False)
        for said, answer in [
            *(("The answer is 15", "5"), ("It is 0.5", "5"), ("It is -5", "5"), ("5.25", "25"), ("1.2.5", "5")),
            *(("007", "7"), ("A5", "5"), ("1e5", "5"), ('"5 apples"', "5"), ('{"a": "5"}', "5"), ("untrue", "true")),
        ]
    ),
    *(
        ("json", said, answer, True)
        for said, answer in [
            *(("The answer is 15.", "15"), ("3-5", "5"), ('{"a": [1, {"b": -5}]}', "-5"), ("It is true.", "true")),
            *(('say "5" then', '"5"'), ('a 5" or 6', "6"), ("5.0", "5"), ('{"a": [1]}', "[1.0]"), ("1e2", "100")),
        ]
    ),
    # True is no number, at any depth.
    ("json", '{"a": 1}', '{"a": true}', False),
    ("json", '[{"a": [0]}]', '[{"a": [false]}]', False),
    ("json", '{"a": true}', '{"a": true}', True),
    # What is too long or too deep to be read is not right, and no error.
    ("json", "1" * 5000, "1", False),
    ("json", "[" * 2000, "1", False),
    ("json", "1", "[" * 100_000, False),
    ("json", '{"a":' * 700 + "1" + "}" * 700, '{"a":' * 700 + "1" + "}" * 700, False),
]


@pytest.mark.parametrize(("scorer", "completion", "answer", "right"), CASES)
def test_scorers(scorer: str, completion: str, answer: str, right: bool) -> None:
    assert get_scorer(scorer)(completion, answer) is right


def test_a_callable_and_an_unknown_name() -> None:
    assert get_scorer(lambda completion, answer: completion == answer[::-1])("ab", "ba")
    with pytest.raises(InputError, match="no scorer 'best'.*\nThe scorers are " + ", ".join(SCORERS)):
        get_scorer("best")


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 50, 0.0, 0.07135), (50, 50, 0.92865, 1.0), (48, 50, 0.86538, 0.98896), (5, 10, 0.23659, 0.76341)],
)
def test_wilson_interval(hits: int, n: int, low: float, high: float) -> None:
    found = share([True] * hits + [False] * (n - hits))
    assert (found.value, found.n) == (hits / n, n)
    assert found.low == pytest.approx(low, abs=1e-4) and found.high == pytest.approx(high, abs=1e-4)


def test_no_rows_have_no_share() -> None:
    assert share([]) == type(share([]))(0.0, 0, 0.0, 1.0)


def of(hits: int, n: int = 50) -> Measure:
    found = share([True] * hits + [False] * (n - hits))
    return Measure(found.value, found.n, found.low, found.high)


@pytest.mark.parametrize(
    ("base", "teacher", "word", "says"),
    [
        (0, 48, "ready", "48 of 50 questions with the example, 0 of 50 without. Good to teach"),
        (0, 5, "cannot", "cannot do this even when shown"),
        (20, 24, "cannot", "would not help"),
        (20, 24, "cannot", "An example helps the model too little to tell: 24 of 50"),
        (10, 30, "weak", "only partly"),
        (40, 50, "weak", "can do most of this already"),
    ],
)
def test_verdicts(base: int, teacher: int, word: str, says: str) -> None:
    found, advice = verdict(of(base), of(teacher))
    assert found == word and says in advice


def test_verdict_without_answers() -> None:
    word, advice = verdict(None, None)
    assert word == "weak" and "nothing can be scored" in advice


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("It is 10%-20%.", "20%"), ("5\u00b0-7\u00b0", "7"), ('5"-7"', "7"), ("(555)-1234", "1234"),
        ("It costs $5.00.", "$5"), ("$1,500.00", "$1,500"), ("2.0", "2"), ("The primes are 2,3,5", "3"),
        ("The scores: 5,7,9", "7"), ("May 5,2020", "2020"), ("20.7.69", "69"),
    ],
)  # fmt: skip
def test_ranges_prices_and_lists_hold_their_numbers(said: str, answer: str) -> None:
    assert contains(said, answer)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("5.05", "5"), ("10.0.0.1", "10"), ("1,500.25", "1,500"), ("1,500", "500"), ("7,8", "8"), ("1.500,25", "25"),
        ("5 - -7", "7"),
    ],
)  # fmt: skip
def test_and_what_is_one_number_stays_one(said: str, answer: str) -> None:
    assert not contains(said, answer)


def test_a_stray_quotation_mark_hides_no_value() -> None:
    for said in ('The answer is "{"a": 1}"', '"It is {"a": 1}"', 'A 5" pipe: {"a": 1}'):
        assert json_value(said, '{"a": 1}')
    assert number("10%\u221220%", "20") and number("10%-20%", "20%")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [("Die STRASSE ist lang.", "straße"), ("คำตอบคือแมวครับ", "แมว"), ("ຄຳຕອບແມ່ນແມວ", "ແມວ")],
)
def test_case_and_letters_that_no_space_sets_apart_are_those_of_each_script(said: str, wanted: str) -> None:
    assert contains(said, wanted)


def test_a_share_never_lies_outside_of_nothing_and_all() -> None:
    for hits in range(21):
        found = measure([True] * hits + [False] * (20 - hits))
        assert 0.0 <= found.low <= found.value <= found.high <= 1.0


def test_a_teacher_that_was_asked_nothing_is_not_judged() -> None:
    nothing = Measure(0.0, 0, 0.0, 1.0)
    word, advice = verdict(nothing, nothing)
    assert word == "weak" and "nothing can be scored" in advice
