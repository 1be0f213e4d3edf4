"""Rows as people write them in running text: tables of Markdown, and turns that begin with `Q:` and `A:`."""

from __future__ import annotations

import re
from typing import Any

from workbench.demonstrations.table import Table, named_columns
from workbench.errors import InputError

# Two columns at least: a single one is a line under a heading.
_RULE = re.compile(r"\s*\|?(\s*:?-+:?\s*\|)+\s*(:?-+:?)?\s*\|?\s*")
_BAR = re.compile(r"(?<!\\)\|")
_TURN = re.compile(r"\s*(?:(?P<asks>q|question|user|prompt)|a|answer|assistant|response)\s*\d*\s*:\s*", re.IGNORECASE)


def markdown(text: str, name: str) -> Table | None:
    """The first table of Markdown in the text; None if there is none.

    Raises:
        InputError: it has no rows, or a row has other cells than the header.
    """
    lines = text.splitlines()
    rule = next((i for i, line in enumerate(lines) if i and _RULE.fullmatch(line) and _BAR.search(lines[i - 1])), None)
    if rule is None or len(_cells(lines[rule])) < 2:
        return None
    header, body, numbers = _cells(lines[rule - 1]), [], []
    end = rule + 1
    while end < len(lines) and _BAR.search(lines[end]):
        cells = _cells(lines[end])
        end += 1
        if len(cells) != len(header):
            raise InputError(
                f"{name}, line {end} has {len(cells)} {'cell' if len(cells) == 1 else 'cells'}; the header has "
                f"{len(header)}.",
                r"Write a bar that belongs to a cell as \|.",
            )
        body.append(cells)
        numbers.append(end)
    if not body:
        raise InputError(f"{name} has a table with a header and no rows.", "Add at least two rows below the header.")
    named = named_columns(header, body, name)
    rows: list[dict[str, Any]] = [{column: cells[place] for column, place in named.items()} for cells in body]
    others = sum(1 for line in (*lines[: rule - 1], *lines[end:]) if line.strip())
    note = f"Of {name} the table in lines {rule} to {end} is read; {others} other lines are not."
    return Table(name, rows, numbers, "line", (note,) if others else ())


def turns(text: str, name: str) -> Table | None:
    """Questions and answers that begin with `Q:` and `A:` (or Question, User; Answer, Assistant); None if it has none.

    A turn goes on over the lines below it, up to the next.

    Raises:
        InputError: a question without an answer, or an answer without a question.
    """
    if not (first := _TURN.match(text.lstrip())) or not first["asks"]:
        return None
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    asked: int | None = None  # the line of a question that waits for its answer
    for number, line in enumerate(text.splitlines(), start=1):
        turn = _TURN.match(line)
        if turn and turn["asks"]:
            if asked is not None:
                raise _unanswered(name, asked)
            asked = number
            rows.append({"prompt": line[turn.end() :]})
            numbers.append(number)
        elif turn:
            if asked is None:
                raise InputError(
                    f"{name}, line {number} is an answer to no question.", "Begin the question before it with Q:"
                )
            asked = None
            rows[-1]["demonstration"] = line[turn.end() :]
        elif rows:
            rows[-1]["demonstration" if asked is None else "prompt"] += "\n" + line
    if asked is not None:
        raise _unanswered(name, asked)
    return Table(name, [{field: cell.strip() for field, cell in row.items()} for row in rows], numbers, "line")


def _cells(line: str) -> list[str]:
    """The cells between a line's bars."""
    inner = line.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith(r"\|"):
        inner = inner[:-1]
    return [cell.strip().replace(r"\|", "|") for cell in _BAR.split(inner)]


def _unanswered(name: str, line: int) -> InputError:
    return InputError(f"{name}, line {line} is a question without an answer.", "Write its answer below it, after A:")
