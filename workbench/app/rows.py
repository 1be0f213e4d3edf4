"""The table of examples: rows of the draft as lines of cells, and back. No Gradio here.

A cell of the table is a text. One that is too long for a table is shown cut; so what comes back is compared with what
was shown, only cells that differ are taken over, and the mark of the cut stands for the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.app.drafts import Draft
from workbench.app.history import Row
from workbench.demonstrations.lenient import mended

PAGE = 50
"""Rows in the table at a time: what a browser takes in its stride, and what is sent at each change."""

LONGEST = 500
"""Most characters of a cell in the table; the whole text is in the form below it."""

HEADERS = ("row", "what is wrong", "question", "answer of the example", "right answer", "article")
FIELDS = ("prompt", "demonstration", "answer", "context")
_CUT = " \u2026 (cut)"

Line = list[Any]


def pages(count: int) -> int:
    """How many pages there are; one even without rows."""
    return max(1, -(-count // PAGE))


def lines(draft: Draft, page: int, wrong_only: bool = False) -> list[Line]:
    """The lines of a page, counted from 1. Each begins with the row's number, from 1."""
    problems = draft.problems
    places = sorted(problems) if wrong_only else range(len(draft.rows))
    shown = list(places)[(page - 1) * PAGE : page * PAGE]
    return [line(place, draft.rows[place], problems.get(place, "")) for place in shown]


def line(place: int, row: Row, problem: str) -> Line:
    """One row as a line."""
    return [place + 1, in_words(problem), *(_shown(row, name) for name in FIELDS)]


def in_words(problem: str) -> str:
    """What is wrong with a row, with the columns called as they are in the table."""
    for field, header in zip(FIELDS, HEADERS[2:], strict=True):
        problem = problem.replace(f"Column '{field}'", f"The {header}").replace(f"column '{field}'", f"the {header}")
    return problem


def text_of(value: Any) -> str:
    """A value as a person can read and edit it: a conversation as JSON, nothing as an empty text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut(text: str) -> str:
    """A text short enough for a table."""
    return text if len(text) <= LONGEST else text[:LONGEST] + _CUT


def value_of(name: str, text: str) -> Any:
    """What a person entered for a field: the inverse of `text_of`; None for nothing."""
    if not text.strip():
        return "" if name == "prompt" else None
    if name == "prompt" and text.lstrip().startswith("[{"):
        try:
            turns = json.loads(text)
        except ValueError:
            return text
        if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns):
            return turns
    return text


def changed(row: Row, values: Mapping[str, str]) -> Row:
    """A row with what was entered for some fields in place of what it held; an unread line is read again."""
    made = dict(row)
    for name, text in values.items():
        value = value_of(name, text)
        if value is None:
            made.pop(name, None)
        else:
            made[name] = value
    return made if made.get("prompt") == row.get("prompt") else mended(made)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a table that was sent.

    Attributes:
        edited, new: how many rows were changed, and added.
        clashes: what was entered in a row that was changed elsewhere meanwhile, and so not taken, by its number.
    """

    edited: int
    new: int
    clashes: dict[int, str]


def take(draft: Draft, table: Sequence[Sequence[Any]], base: Sequence[Row]) -> Taken:
    """Take over what was edited in a table that was drawn from `base`; what is there already is taken once.

    A line whose number is none of a row is a new row. A line that is missing says nothing: a table may show a part.
    """
    edited, added = 0, 0
    clashes: dict[int, str] = {}

    def revised(present: tuple[Row, ...]) -> list[Row]:
        nonlocal edited, added
        held = list(present)
        for cells in table:
            texts = {name: _text(cell) for name, cell in zip(FIELDS, cells[2:], strict=False)}
            place = _place(cells[0], len(base))
            if place is None:
                row = changed({}, texts)
                if any(text.strip() for text in texts.values()) and row not in present[len(base) :]:
                    held.append(row)
                    added += 1
                continue
            entered = _differing(base[place], texts)
            if not entered:
                continue
            entered = {name: _whole(base[place], name, text) for name, text in entered.items()}
            merged = _merged(base[place], present[place] if place < len(present) else None, entered)
            if merged is None:
                clashes[place + 1] = ", ".join(map(cut, entered.values()))
            elif merged != present[place]:
                held[place] = merged
                edited += 1
        return held

    draft.revise(revised)
    return Taken(edited, added, clashes)


def _merged(was: Row, now: Row | None, entered: Mapping[str, str]) -> Row | None:
    """A row with what was entered where the table showed `was`; None if somebody changed it elsewhere meanwhile.

    Of two changes in one row the later is refused, also in other cells: after a deletion it may be another row.
    """
    made = changed(was, entered)
    if now is None or now == made:
        return now
    for name in FIELDS:
        if _shown(now, name) not in (_shown(was, name), cut(entered[name]) if name in entered else None):
            return None
    return changed(now, entered)


def same(table: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]]) -> bool:
    """Whether two tables hold the same lines."""
    first, second = ([tuple(map(_text, line)) for line in rows] for rows in (table, other))
    return first == second


def _differing(row: Row, texts: Mapping[str, str]) -> dict[str, str]:
    """Those of the texts that are not what the table shows of a row."""
    return {name: text for name, text in texts.items() if text != _shown(row, name)}


def _whole(row: Row, name: str, text: str) -> str:
    """What was entered, with the rest of a text that the table shows cut in place of the mark that stands for it."""
    held = text_of(row.get(name))
    return text.replace(_CUT, held[LONGEST:], 1) if len(held) > LONGEST else text


def _shown(row: Row, name: str) -> str:
    return cut(text_of(row.get(name)))


def _place(cell: Any, count: int) -> int | None:
    try:
        number = int(float(str(cell).strip()))
    except (ValueError, OverflowError):
        return None
    return number - 1 if 1 <= number <= count else None


def _text(cell: Any) -> str:
    # pandas' word for an empty cell is NaN, the only value that is not itself.
    return "" if cell is None or cell != cell else str(cell)
