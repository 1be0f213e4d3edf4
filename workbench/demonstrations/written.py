"""Rows as people write them in running text: tables of Markdown, and turns that begin with `Q:` and `A:`."""

from __future__ import annotations

import re
from typing import Any

from workbench.demonstrations.table import Table, Unread, cells_unlike, named_columns
from workbench.errors import InputError

# Two columns at least: a single one is a line under a heading.
_RULE = re.compile(r"\s*\|?(\s*:?-+:?\s*\|)+\s*(:?-+:?)?\s*\|?\s*")
_BAR = re.compile(r"(?<!\\)\|")
_TURN = re.compile(r"\s*(?:(?P<asks>q|question|user|prompt)|a|answer|assistant|response)\s*\d*\s*:\s*", re.IGNORECASE)


def markdown(text: str, name: str) -> Table | None:
    """The first table of Markdown in the text; None if there is none.

    Raises:
        InputError: it has no rows.
    """
    lines = text.splitlines()
    rule = next((i for i, line in enumerate(lines) if i and _RULE.fullmatch(line) and _BAR.search(lines[i - 1])), None)
    if rule is None or len(_cells(lines[rule])) < 2:
        return None
    header, body, numbers, unread = _cells(lines[rule - 1]), [], [], []
    end = rule + 1
    while end < len(lines) and _BAR.search(lines[end]):
        cells = _cells(lines[end])
        end += 1
        if len(cells) != len(header):
            advice = r"Write a bar that belongs to a cell as \|."
            unread.append(Unread(end, lines[end - 1].strip(), cells_unlike(cells, len(header)), advice))
            continue
        body.append(cells)
        numbers.append(end)
    if not body and not unread:
        raise InputError(f"{name} has a table with a header and no rows.", "Add at least two rows below the header.")
    named = named_columns(header, body, name)
    rows: list[dict[str, Any]] = [{column: cells[place] for column, place in named.items()} for cells in body]
    others = sum(1 for line in (*lines[: rule - 1], *lines[end:]) if line.strip())
    note = f"Of {name} the table in lines {rule} to {end} is read; {others} other lines are not."
    return Table(name, rows, numbers, "line", (note,) if others else (), unread=tuple(unread))


def turns(text: str, name: str) -> Table | None:
    """Questions and answers that begin with `Q:` and `A:` (or Question, User; Answer, Assistant); None if it has none.

    A turn goes on over the lines below it, up to the next. A question without an answer is among the table's unread
    lines, and so is an answer without a question.
    """
    if not (first := _TURN.match(text.lstrip())) or not first["asks"]:
        return None
    rows: dict[int, dict[str, str]] = {}
    strays: dict[int, str] = {}  # answers to no question
    here, field = 0, ""  # the turn that goes on: where it began and what it fills
    for number, line in enumerate(text.splitlines(), start=1):
        turn = _TURN.match(line)
        if turn and turn["asks"]:
            here, field = number, "prompt"
            rows[here] = {field: line[turn.end() :]}
        elif turn and field == "prompt":
            field = "demonstration"
            rows[here][field] = line[turn.end() :]
        elif turn:
            here, field = number, ""
            strays[here] = line
        elif field:
            rows[here][field] += "\n" + line
        elif here:
            strays[here] += "\n" + line
    whole = {
        number: {field: cell.strip() for field, cell in row.items()}
        for number, row in rows.items()
        if "demonstration" in row
    }
    return Table(name, list(whole.values()), list(whole), "line", unread=_left_over(rows, strays))


def _left_over(rows: dict[int, dict[str, str]], strays: dict[int, str]) -> tuple[Unread, ...]:
    """The questions without an answer and the answers without a question, in order."""
    left = []
    for number, row in rows.items():
        if "demonstration" not in row:
            cells = {"prompt": row["prompt"].strip()}
            said = "is a question without an answer"
            left.append(Unread(number, cells["prompt"], said, "Write its answer below it, after A:", cells))
    for number, text in strays.items():
        left.append(Unread(number, text.strip(), "is an answer to no question", "Begin the question before it with Q:"))
    return tuple(sorted(left, key=lambda line: line.number))


def _cells(line: str) -> list[str]:
    """The cells between a line's bars."""
    inner = line.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith(r"\|"):
        inner = inner[:-1]
    return [cell.strip().replace(r"\|", "|") for cell in _BAR.split(inner)]
