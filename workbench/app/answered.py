"""The last answers on the page Compare, kept with the drafts: a refresh, another tab and a restart show them again."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from typing import Any

from workbench.app.drafts import Draft
from workbench.app.questions import Answers, Question
from workbench.errors import WorkbenchError
from workbench.worker.client import Call

_KEY = "compare.answers"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with what it came to.

    Attributes:
        filled: for which question the teacher's field was filled in, and with what.
        beside: the step of the second student, 0 for none.
        by: the page that asked.
        turns: how many of the conversation were before it.
        answers, earlier: of all three, and of the second student.
    """

    question: Question
    filled: tuple[str, str]
    beside: int
    by: str
    turns: int
    answers: Answers
    earlier: Answers


def keep(
    drafts: Draft,
    question: Question,
    filled: tuple[str, str],
    beside: int,
    by: str,
    turns: int,
    first: Call,
    second: Call | None,
) -> None:
    """Write the answers down as soon as they are there, also when nobody looks any more. Returns at once."""
    about = {
        "messages": list(question.messages),
        "demonstration": question.demonstration,
        "context": question.context,
        "run": question.run,
        "step": question.step,
        "right": question.right,
        "scorer": question.scorer,
        "filled": list(filled),
        "beside": beside if second is not None else 0,
        "by": by,
        "turns": turns,
    }

    def wait() -> None:
        try:
            answers = first.result()
        except WorkbenchError:
            return  # the page says why; the answers before these stay kept
        earlier = None
        if second is not None:
            try:
                earlier = second.result()
            except WorkbenchError:
                about["beside"] = 0
        try:
            drafts.type(_KEY, json.dumps({**about, "answers": answers, "earlier": earlier}))
        except WorkbenchError:
            _log.exception("The answers could not be kept; a refresh of the page loses them")

    threading.Thread(target=wait, name="answers", daemon=True).start()


def mark(drafts: Draft) -> str:
    """Another text whenever other answers are kept."""
    return drafts.typed(_KEY)


def kept(drafts: Draft) -> Answered | None:
    """What was asked last, with its answers; None if nothing was, or if it cannot be read any more."""
    try:
        held = json.loads(drafts.typed(_KEY) or "null")
        if held is None:
            return None
        messages = tuple({"role": str(m["role"]), "content": str(m["content"])} for m in held["messages"])
        if not messages:
            return None
        text, shown = held["filled"]
        step = int(held["step"]) if held["step"] else None
        names = ("demonstration", "context", "run", "right")
        texts = [None if held.get(name) is None else str(held[name]) for name in names]
        return Answered(
            Question(messages, texts[0], texts[1], texts[2], step, texts[3], str(held.get("scorer", "contains"))),
            (str(text), str(shown)),
            int(held["beside"]),
            str(held["by"]),
            int(held["turns"]),
            _answers(held["answers"]),
            _answers(held["earlier"]),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def _answers(result: dict[str, Any] | None) -> Answers:
    made = Answers()
    if result is not None:
        made.take({"reply": "done", "result": result})
    return made
