"""Answers that a scorer could never match, whatever a model says: refused before anything is done with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from workbench.demonstrations import Demonstration
from workbench.errors import InputError
from workbench.evaluation.paper_scoring import answer_tag, calls_in, has_words
from workbench.evaluation.scoring import get_scorer, json_value, number

_NAMED_AT_MOST = 3
_SHOWN_AT_MOST = 40


def _are_calls(answer: str) -> bool:
    calls = calls_in(answer)
    return calls is not None and all(re.fullmatch(r"\w+", name) for name, _ in calls)


# Where a right answer is right for itself, one that is not can never be. The other scorers match any answer that has
# a character in it.
_READS: dict[str, tuple[Callable[[str], bool], str]] = {
    "number": (lambda answer: number(answer, answer), "has a number in it, such as 12 km"),
    "json": (lambda answer: json_value(answer, answer), 'is a JSON value, such as {"colour": "red"}, 12 or "red"'),
    "answer-tag": (lambda answer: answer_tag(answer, answer), "is written without the tags, such as B"),
    "tool-calls": (
        _are_calls,
        'is a JSON list of calls, such as [{"Action": "send", "Action_Input": {"to": "Ada"}}], in which each Action '
        "is one word of letters, digits and _",
    ),
    "says": (has_words, "has a word in it, or is a JSON list of texts that have"),
    "half-says": (has_words, "has a word in it, or is a JSON list of texts that have"),
}


def refuse_unscorable(rows: Sequence[Demonstration], scorer: str) -> None:
    """Refuse rows whose answer a scorer could never match: every completion would be wrong, and nobody would know why.

    Args:
        rows: as the person knows them, so that one without an id is called by its place. Keep rows and rows without
            an answer are not scored, and are let through.

    Raises:
        InputError: there is no such scorer; an answer is not what it reads.
    """
    get_scorer(scorer)
    if scorer not in _READS:
        return
    reads, looks = _READS[scorer]
    scored = [(place, row, row.answer) for place, row in enumerate(rows, 1) if row.answer is not None and not row.keep]
    wrong = [f"row {row.id or place} ({_short(answer)})" for place, row, answer in scored if not reads(answer)]
    if not wrong:
        return
    more = f" and {len(wrong) - _NAMED_AT_MOST} more" if len(wrong) > _NAMED_AT_MOST else ""
    raise InputError(
        f"{len(wrong)} of {len(scored)} answers can never be matched by the scorer {scorer}: "
        f"{', '.join(wrong[:_NAMED_AT_MOST])}{more}.",
        f"An answer for {scorer} {looks}. Correct the answer or leave it empty, or choose another scorer.",
    )


def _short(answer: str) -> str:
    return repr(answer if len(answer) <= _SHOWN_AT_MOST else f"{answer[: _SHOWN_AT_MOST - 3]}...")
