"""What was entered on Compare beside the question and may not have been asked yet; a refresh and a restart keep it."""

from __future__ import annotations

import json
from typing import Any

from workbench.app.answered import kept
from workbench.app.asking import SAME, Filled, note_on
from workbench.app.drafts import Draft

_SHOWN, _DRAWN = "compare.shown", "compare.drawn"
DRAWN = ("temperature", "top_p", "top_k", "seed", "longest")
"""The fields that say how answers are drawn, in the order of the page."""


def keep_shown(drafts: Draft, question: str, shown: str, filled: Filled) -> None:
    """What the teacher is to be shown with a question.

    Args:
        filled: for which question the field was filled in before, and with what.
    """
    drafts.type(_SHOWN, json.dumps([question or "", shown or "", list(filled)]))


def keep_drawn(drafts: Draft, *values: Any) -> None:
    """How answers are to be drawn: a number for each of `DRAWN`, None for an empty field."""
    drafts.type(_DRAWN, json.dumps(values))


def shown(drafts: Draft, run: str) -> list[Any]:
    """The teacher's field, for what it was filled in, and what is said about it; as it is where that is not known."""
    try:
        question, text, (of, with_) = json.loads(drafts.typed(_SHOWN) or "null")
        if not question.strip() or question.strip() != drafts.typed("compare.question").strip():
            return [SAME] * 3
        last = kept(drafts)
        if last is not None and (last.question.text, last.question.shown) == (question.strip(), text.strip()):
            return [SAME] * 3  # it was asked, and what is said of the last answers says more
        return [str(text), (str(of), str(with_)), note_on(str(text), run, text == with_, None)]
    except (ValueError, TypeError, AttributeError):
        return [SAME] * 3


def drawn(drafts: Draft) -> list[Any]:
    """The fields of `DRAWN`, each as it is where nothing is known of it."""
    try:
        values = [None if value is None else float(value) for value in json.loads(drafts.typed(_DRAWN) or "null")]
    except (ValueError, TypeError):
        values = []
    if len(values) != len(DRAWN):
        return [SAME] * len(DRAWN)
    return [SAME if value is None else value for value in values]
