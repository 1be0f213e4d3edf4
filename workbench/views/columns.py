"""Answers beside each other: of base, teacher and student to one question, and of all to many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.views.text import escape, shown

ROLES = ("base", "teacher", "student")
TITLES = {
    "base": "Base: the model as it was",
    "teacher": "Teacher: the base with an example",
    "student": "Student: what was taught",
}
CHANGES = ("forgotten", "learned", "still wrong", "still right", "not marked")
"""What became of a question between base and student, in the order in which a table shows them."""


def title_of(role: str, run: str = "", step: int | None = None) -> str:
    """What is written over an answer: the student's names its run and step, since there are many."""
    whose = (f" of {run}" if run else "") + (f" at step {step}" if step else "")
    return f"Student{whose}" if role == "student" and whose else TITLES.get(role, role)


def answer_column(
    role: str,
    text: str | Sequence[str],
    note: str = "",
    right: bool | None = None,
    elem_id: str = "",
    title: str = "",
) -> str:
    """HTML of one answer, or of several to the same question.

    Args:
        note: time and tokens, say.
        right: marks it; None where that is not known.
    """
    texts = [text] if isinstance(text, str) else list(text)
    marks = {True: '<span class="wb-right">\u2713 right</span>', False: '<span class="wb-wrong">\u2717 wrong</span>'}
    mark = "" if right is None else " " + marks[right]
    identity = f' id="{escape(elem_id)}"' if elem_id else ""
    # What is long scrolls, and what scrolls must be reached by the keyboard.
    bodies = "".join(
        f'<div class="wb-text" dir="auto"{" tabindex=0" if len(one) > 600 else ""}>{shown(one, 20_000)}</div>'
        for one in texts
    )
    name = title or title_of(role)
    return (
        f'<div class="wb wb-answer"{identity}><div class="wb-title">{escape(name)}{mark}</div>{bodies}'
        f'<div class="wb-note">{escape(note)}</div></div>'
    )


def three_columns(
    answers: Mapping[str, str | Sequence[str]],
    notes: Mapping[str, str] | None = None,
    right: Mapping[str, bool | None] | None = None,
) -> str:
    """HTML of the answers of base, teacher and student beside each other (below each other where it is narrow)."""
    notes, right = notes or {}, right or {}
    made = [
        answer_column(role, answers[role], notes.get(role, ""), right.get(role), f"answer-{role}")
        for role in ROLES
        if role in answers
    ]
    return f'<div class="wb-columns">{"".join(made)}</div>'


def change(row: Mapping[str, Any]) -> str:
    """What became of one question of a list that all have answered: one of `CHANGES`."""
    if row["student_right"] is None:
        return "not marked"  # no right answer is known
    if row["base_right"] == row["student_right"]:
        return "still right" if row["student_right"] else "still wrong"
    return "learned" if row["student_right"] else "forgotten"
