"""A judge that needs no account: the model as it was before teaching, reading the true answer.

The paper asks GPT-5-mini whether a medical answer is right. The untaught model stands in: it is at hand, the same for
all that is compared, and is asked to compare two texts, which is easier than the question. It is a weaker judge, so
its shares stand beside each other (before, SFT, SDFT) and not beside the paper's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from workbench.demonstrations import Demonstration
from workbench.evaluation import answer, what_counts
from workbench.prompts import Prompts
from workbench.roles import Roles

_VERDICT = re.compile(r"\b(IN)?CORRECT\b")
_PLACE = re.compile(r"\{(?:question|truth|said)\}")
_ROOM = 8
"""Tokens that the judge may say: its verdict is one word."""

QUESTION = """A medical question, its true answer, and a student's answer.

Question:
{question}

True answer:
{truth}

Student's answer:
{said}

Does the student's answer state what the true answer says? Other words and further details do no harm; another \
diagnosis, drug or number, or none, is wrong. Reply with one word: CORRECT or INCORRECT."""


def verdict(text: str) -> bool:
    """Whether a judge's reply says CORRECT; the first verdict counts, and none is a no."""
    found = _VERDICT.search(text.upper())
    return found is not None and found.group(1) is None


def judge_all(
    roles: Roles, prompts: Prompts, rows: Sequence[Demonstration], completions: Sequence[str], at_once: int
) -> list[bool]:
    """What the untaught model says of each completion, of which it reads what follows the thoughts.

    A completion that says nothing, or ended inside its thoughts, is wrong and not asked about.
    """
    asked, counts = [], what_counts(prompts.tokenizer)
    said = [counts(text) or "" for text in completions]
    for row, text in zip(rows, said, strict=True):
        # In one pass: an answer may hold braces, or a placeholder's name.
        parts = {"{question}": row.question, "{truth}": row.answer or "", "{said}": _plain(text, prompts)}
        text = _PLACE.sub(lambda match, parts=parts: parts[match.group()], QUESTION)  # type: ignore[misc]
        asked.append(prompts.encode([{"role": "user", "content": text}]))
    # What is too long for the model is judged wrong, and not cut: half an answer is another answer.
    fits = [bool(text) and len(ids) + _ROOM <= roles.loaded.longest for text, ids in zip(said, asked, strict=True)]
    kept = [ids for ids, fit in zip(asked, fits, strict=True) if fit]
    replies = iter(in_parts(lambda part: answer(roles.base_decoder, roles.loaded, part, longest=_ROOM), kept, at_once))
    return [fit and verdict(counts(next(replies)) or "") for fit in fits]


def in_parts(
    ask: Callable[[Sequence[tuple[int, ...]]], list[str]], prompts: Sequence[tuple[int, ...]], at_once: int
) -> list[str]:
    """`ask`, a few prompts at a time, so that a long test fits beside a large model."""
    texts: list[str] = []
    for start in range(0, len(prompts), at_once):
        texts += ask(prompts[start : start + at_once])
    return texts


def _plain(text: str, prompts: Prompts) -> str:
    """A completion without anything that the tokenizer reads as the border of a turn."""
    for token in prompts.tokenizer.all_special_tokens:
        text = text.replace(token, " ")
    return text
