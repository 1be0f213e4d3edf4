"""Is a completion right? Scorers by name, or a callable (completion, answer) -> bool."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable

from workbench.errors import InputError
from workbench.evaluation.json_values import equal, values_in
from workbench.evaluation.paper_scoring import answer_tag, half_says, says, tool_calls

Scorer = Callable[[str, str], bool]

_FIGURE = re.compile(
    r"-?(?:(?<!\d,)\d{1,3}(?:,\d{3})+(?!\d|,\d)(?:\.\d+)*"  # 1,500.25
    r"|(?<!\d,)\d+(?:\.\d+)*,\d{1,3}(?!\d|,\d)"  # 3,5 and 1.500,25; more commas are those of a list
    r"|\d+(?:\.\d+)*|(?<![\w.,])\.\d+)"
)
_DATE = re.compile(r"\d{1,2}\.\d{1,2}\.(?:\d{4}|\d{2})")
_WHOLE = re.compile(r"\.0+$")
_CLOSES = frozenset("%\u00b0\"'\u2032\u2033)]")
"""Behind a digit these belong to its number, or close what it is in."""
_BELOW_ZERO = re.compile(r"-\.?\d")
_CURRENCY = "$\u20ac\u00a3\u00a5"
_NUMBER = re.compile(
    rf"(?<![\d.])[-+]?[{_CURRENCY}]?(?:(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+(?![\w.]))?"
)
_NO_DIGITS = dict.fromkeys(map(ord, _CURRENCY + ","))
_NOTE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_RAISED = dict.fromkeys(map(ord, "⁰¹²³⁴⁵⁶⁷⁸⁹"))
"""Raised digits belong to a unit (km²), and would be read as digits of a number of their own."""

# "a" and "I" are words as well: they are letters of a choice only where no sentence goes on so with the word.
_GOES_ON = r"(?!\s+(?!(?:because|since|as|is|was|and|or|not|but)\b)\w)"
_ONE = rf"([A-HJ-Zb-z]|[aI]{_GOES_ON})(?![-'’]?\w)"
_STATED = re.compile(
    r"\b(?i:answer|choice|option)\b(?i:['’]s\b|[\s:=]+(?:is|was|would be|must be)\b)?+[\s:=*_]*"
    rf"(?:(?i:option|choice|letter)\s+)?[*_(\[{{\"'“]*{_ONE}"
)
_ALONE = re.compile(
    r"(?:^|(?<=[\s(\[{*\"'“]))([A-Z])(?=[).:\]}*,\"'”]|\s*$)"  # a capital with a mark behind it, or at the end
    r"|^[^\w\n]*([A-Za-z])[^\w\n]*$"  # the only letter of a line
    r"|^[*_(\[\"']*([a-z])(?:[).:\]}]+[*_\"']*)(?=\s)"  # "a) moss", "a. moss"
    r"|\(([a-z])\)",
    re.MULTILINE,
)
_LEADS = re.compile(r"[^\w\n]*([A-Za-z])(?=\s*$|[).:\]},;\"']|\s+(?:[(\[–—-]|(?:because|since|as)\b))")


def _fold(text: str) -> str:
    """Text with the differences taken out that do not make an answer wrong: Unicode form, case, white space."""
    return " ".join(_plain(text).casefold().split())


def _plain(text: str) -> str:
    """One Unicode form of a text, in which the minus of typesetting is the one of the keyboard."""
    return unicodedata.normalize("NFKC", text).replace("\u2212", "-")


def _is_word(character: str) -> bool:
    """Whether a character is part of a word that is set off by spaces (not so in Chinese or Japanese)."""
    if unicodedata.category(character)[0] == "M":
        return True
    return character.isalnum() and not any(
        name in unicodedata.name(character, "") for name in ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER")
    )


def _is_sign(text: str, at: int) -> bool:
    """Whether the minus there is a sign: behind a letter or a number it joins what is on its two sides."""
    if at > 1 and text[at - 1] in _CLOSES and text[at - 2].isdecimal():
        return False
    return at == 0 or not _is_word(text[at - 1])


def contains(completion: str, answer: str) -> bool:
    """The answer stands in the completion, not inside a longer word or number: there is no 5 in 15, 3.5, 5,000 or -5.

    Digits that a point or a comma joins are one number, but those of a date such as 20.7.1969 are three, and so are
    those of a list such as 2,3,5. There is a 5 in 5.00. A minus behind a letter or a number is no sign: there is a 5
    in 3-5, and an 11 in Apollo-11, but no -5 and no -11.
    """
    text, wanted = _fold(completion), _fold(answer)
    if not wanted or wanted not in text:
        return False
    inside = _inside_figures(text) if any(map(str.isdecimal, wanted)) else frozenset()
    joins = _is_word(wanted[0]) or _BELOW_ZERO.match(wanted)
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        before, after = text[start - 1 : start], text[end : end + 1]
        free_before = not before or not (joins and _is_word(before))
        free_after = not after or not (_is_word(wanted[-1]) and _is_word(after))
        if free_before and free_after and start not in inside and end not in inside:
            return True
        start = text.find(wanted, start + 1)
    return False


def _inside_figures(text: str) -> frozenset[int]:
    """The places in a folded text where an answer can neither begin nor end, since a number stands on both sides."""
    places: set[int] = set()
    for figure in _FIGURE.finditer(text):
        if not _DATE.fullmatch(figure.group()):
            start = figure.start()
            dash = text[start] == "-" and not _is_sign(text, start)
            places.update(range(start + 1 + dash, figure.end()))
            if whole := _WHOLE.search(figure.group()):
                places.discard(start + whole.start())
    return frozenset(places)


def exact(completion: str, answer: str) -> bool:
    """The completion is the answer and nothing else."""
    return _fold(completion) == _fold(answer)


def choice(completion: str, answer: str) -> bool:
    """The letter chosen is the answer's: the last one stated as the answer, else the last one that stands alone."""
    leads = _LEADS.match(answer)
    wanted = leads.group(1) if leads else _chosen(answer)
    if wanted is None:
        return contains(completion, answer)
    return _chosen(completion) == wanted.upper()


def _chosen(text: str) -> str | None:
    """The letter that a text settles on, as a capital; None if there is none."""
    stated = _STATED.findall(text)
    alone = [next(filter(None, found)) for found in _ALONE.findall(text)] if not stated else []
    return next((letter.upper() for letter in reversed(stated or alone)), None)


def number(completion: str, answer: str) -> bool:
    """The last number of the completion equals the answer's last, notes in brackets apart ("12 km (7.5 miles)").

    What stands in the completion's brackets counts as well, since it may be the answer and no note: "3 + 9 = (12)".
    """
    wanted = _numbers(_NOTE.sub(" ", answer)) or _numbers(answer)
    found = [_numbers(text)[-1:] for text in (completion, _NOTE.sub(" ", completion))]
    return bool(wanted) and wanted[-1:] in found


def _numbers(text: str) -> list[float]:
    plain = _plain(text.translate(_RAISED))
    found = []
    for match in _NUMBER.finditer(plain):
        value = float(match.group().translate(_NO_DIGITS))
        found.append(value if _is_sign(plain, match.start()) else abs(value))
    return found


def json_value(completion: str, answer: str) -> bool:
    """The completion holds a JSON value equal to the answer's (objects in any order of keys).

    1 and 1.0 are one number; 1 and true, or 5 and "5", are not the same.
    """
    try:
        wanted = json.loads(answer)
        return any(equal(value, wanted) for value in values_in(completion))
    except (ValueError, RecursionError):
        return False


SCORERS: dict[str, Scorer] = {
    "contains": contains,
    "exact": exact,
    "choice": choice,
    "number": number,
    "json": json_value,
    "answer-tag": answer_tag,
    "tool-calls": tool_calls,
    "says": says,
    "half-says": half_says,
}
"""The scorers that can be named."""


def get_scorer(scorer: str | Scorer) -> Scorer:
    """The scorer of that name; a callable is returned as it is. Raises InputError on an unknown name."""
    if callable(scorer):
        return scorer
    if scorer not in SCORERS:
        raise InputError(f"There is no scorer {scorer!r}.", f"The scorers are {', '.join(SCORERS)}.")
    return SCORERS[scorer]
