"""The conversation on the page Compare: going on from an answer, over several turns.

Its turns are kept with the drafts, so that a refresh, another tab and a restart show the same conversation.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from workbench.app.asking import NO_STUDENT, SAME, Asked, line
from workbench.app.desk import Cursor, Desk
from workbench.errors import WorkbenchError
from workbench.views.text import escape
from workbench.views.text import shown as safe

Turns = list[dict[str, str]]

OVER = "This answer belongs to the conversation that you have ended. Ask a question first."
_KEY = "compare.turns"


def kept(desk: Desk) -> Turns:
    """What was said so far, also before a restart."""
    try:
        turns = json.loads(desk.drafts.typed(_KEY) or "[]")
        return [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in turns]
    except (ValueError, KeyError, TypeError):
        return []


def carry(desk: Desk, asked: Asked | None, who: str, turns: Turns) -> tuple[Any, Any, Any, Any]:
    """Go on from one of the answers: the next question comes after it, for all three.

    Returns:
        The turns, the conversation as HTML, what the question's field shows, and what is said about it.
    """
    if asked is None or who not in asked.texts:
        why = "Ask a question first." if asked is None else NO_STUDENT
        return turns, conversation(turns), SAME, line(why, wrong=True)
    if len(turns) < asked.turns:
        return turns, conversation(turns), SAME, line(OVER, wrong=True)
    answer = {"role": "assistant", "content": asked.texts[who]}
    turns = [*({**m} for m in asked.question.messages), answer]
    try:
        desk.drafts.type(_KEY, json.dumps(turns))
        # A field that the page empties is no news to what remembers it.
        desk.drafts.type("compare.question", "")
        said = line("Write the next question; all three read what was said so far.")
    except WorkbenchError as error:
        said = line(f"The conversation goes on, but a refresh would lose it. {error}", wrong=True)
    return turns, conversation(turns), "", said


def start_over(desk: Desk) -> tuple[Turns, str, str]:
    """Forget what was said."""
    try:
        desk.drafts.type(_KEY, "")
    except WorkbenchError as error:
        return [], conversation([]), line(f"A refresh would bring the conversation back. {error}", wrong=True)
    return [], conversation([]), ""


def restore(desk: Desk) -> list[Any]:
    """The turns and the conversation, from disk; the part is open where there is one."""
    turns = kept(desk)
    return [turns, conversation(turns), gr.update(open=True) if turns else SAME]


def poll(desk: Desk, cursor: Cursor) -> list[Any]:
    """The same when it went on in another tab."""
    said = desk.drafts.typed(_KEY)
    if cursor.get(_KEY) == said:
        return [SAME] * 3
    cursor[_KEY] = said
    return restore(desk)


def conversation(turns: Turns) -> str:
    """HTML of what was said so far."""
    if not turns:
        return line(
            "There is one conversation for all three. After an answer, choose whose answer it goes on from; the next "
            "question is then asked with everything before it."
        )
    names = {"user": "You", "assistant": "Answer", "system": "System"}
    items = [f"<li><b>{escape(names.get(t['role'], t['role']))}</b> {safe(t['content'], 2000)}</li>" for t in turns]
    # On a phone the question's field, and what is said there, are out of sight.
    onward = line("Write the next question at the top of this page; all three read this before it.")
    return f'<div class="wb"><ol class="compare-turns">{"".join(items)}</ol>{onward}</div>'
