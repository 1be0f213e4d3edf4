"""Which column holds what: the user's word, or a guess from the names that the field uses. A guess is always said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

from workbench.demonstrations.table import UNNAMED, Table
from workbench.errors import InputError

ALIASES: dict[str, tuple[str, ...]] = {
    "prompt": (
        "prompt",
        "question",
        "questions",
        "instruction",
        "problem",
        "query",
        "input",
        "user",
        "request",
        "prompt_messages",
    ),
    "demonstration": (
        "demonstration",
        "golden_response",
        "completion",
        "response",
        "output_text",
        "solution",
        "output",
        "golden_answers",
        "example",
        "assistant",
        "reply",
    ),
    "answer": ("answer", "final_answer", "label", "target", "expected", "golden_answer"),
    "context": ("context", "privileged_context", "article", "document", "passage"),
}
MESSAGES = ("messages", "conversations", "conversation", "chat")
_EXTRAS = {"id": ("id",), "tags": ("tags", "tag", "category"), "keep": ("keep",)}
_KNOWN = frozenset(name for names in (*ALIASES.values(), *_EXTRAS.values(), MESSAGES) for name in names)
_UNUSED_AT_MOST = 8
TITLES = 10
"""Most rows above a header."""
_SHOWN = 80
_SHORT_ANSWERS = ("final_answer", "golden_answer")
_READABLE = re.compile(r"####\s*\S|^\s*[\[{]|^\s*\(?[A-Ha-h][).:]\s")
"""An answer, however long, of which a scorer reads a part: GSM8K's, JSON, the letter of a choice."""
_SHORT = 4
"""Words, or tens of characters, up to which an answer is one that others can hold."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The user's word on which column holds what; None leaves it to the guess, and "" means that none does."""

    prompt: str | None = None
    demonstration: str | None = None
    answer: str | None = None
    context: str | None = None


class ColumnError(InputError):
    """No column was found for a field that there must be one for.

    Args:
        there: the columns that there are.
    """

    def __init__(self, problem: str, advice: str, there: Sequence[str]) -> None:
        super().__init__(problem, advice)
        self.there = tuple(there)


def known_as(field: str, column: str) -> bool:
    """Whether a column has one of the names by which a field is guessed."""
    return _fold(column) in ALIASES[field]


def known_names(cells: Iterable[str]) -> int:
    """How many of these cells are names that a guess goes by: 0 means that they are hardly a header."""
    return sum(_fold(cell) in _KNOWN for cell in cells)


def header_place(rows: Sequence[Sequence[Any]]) -> int:
    """Which row is the header: the first, or one below titles, as people put them above a table.

    A title has one cell, or fewer cells than the table, and none of the known names; the header below it has one.

    Args:
        rows: those at the beginning that are not blank.
    """
    filled = [[text for cell in row if cell is not None and (text := str(cell).strip())] for row in rows[: TITLES + 1]]
    if not filled or known_names(filled[0]):
        return 0
    for place, cells in enumerate(filled):
        titles = zip(rows[:place], filled[:place], strict=True)
        if known_names(cells) and all(
            len(title) < len(cells) and (len(title) == 1 or len(row) < len(rows[place])) for row, title in titles
        ):
            return place
    return 0


def title_note(source: str, number: int, titles: Iterable[Iterable[Any]]) -> tuple[str, ...]:
    """What is said of the rows above a header in row `number`; nothing if there are none."""
    texts = (" ".join(str(cell).strip() for cell in row if cell not in ("", None)) for row in titles)
    said = "; ".join(text for text in texts if text)
    if not said:
        return ()
    short = said if len(said) <= _SHOWN else said[:_SHOWN] + " ..."
    return (f"The header of {source} is read from row {number}; what stands above it is left out: {short!r}.",)


def choose(table: Table, columns: Columns, need: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Which column is taken for each field, and plain sentences about it.

    Args:
        need: the fields that there must be a column for.

    Raises:
        InputError: a column that the user named is not there.
        ColumnError: none is found for a needed field.
    """
    there = {_fold(name): name for name in reversed(table.columns)}
    chosen = _named_by_user(table, columns)
    notes: list[str] = []
    taken = set(chosen.values())
    for name, aliases in ALIASES.items():
        found = next((there[a] for a in aliases if a in there and there[a] not in taken), None)
        if name in chosen or found is None or getattr(columns, name) == "":
            continue
        if name == "answer" and _holds_objects(table, found):
            notes.append(f"Column {found!r} holds objects, not texts, so it is not used as the answer to score.")
            continue
        chosen[name] = found
        taken.add(found)
    messages = next((there[a] for a in MESSAGES if a in there), None)
    if messages is not None and columns.prompt is None:
        chosen["prompt"] = messages
    if "demonstration" in need and "demonstration" not in chosen and messages is None:
        notes += _answers_as_demonstrations(table, there, chosen, columns)
    if "demonstration" in chosen and "context" in chosen and columns.context is None:
        notes.append(
            f"Where column {chosen['context']!r} holds something, the teacher reads that in place of the "
            "demonstration, and the student does not. If it belongs to what is asked, put it there, or leave it out."
        )
    if "instruction" in there and chosen.get("prompt") == there["instruction"] and "input" in there:
        chosen["input"] = there["input"]
    _require(table, chosen, need, excused=messages is not None or "keep" in there or "context" in chosen)
    for extra, aliases in _EXTRAS.items():
        found = next((there[a] for a in aliases if a in there), None)
        if found is not None:
            chosen[extra] = found
    guessed = [f"{field} from column {column!r}" for field, column in chosen.items() if field != column]
    if guessed:
        notes.insert(0, "Read " + ", ".join(guessed) + ".")
    return chosen, [*notes, *_unused(table, chosen)]


def _answers_as_demonstrations(
    table: Table, there: dict[str, str], chosen: dict[str, str], columns: Columns
) -> list[str]:
    """Take the answers for the demonstrations, which there is no column for; and what is said about it.

    Whole sentences are no answers to score as well: hardly any answer repeats one to the letter, so a teacher that is
    right would be marked wrong.
    """
    if "answer" not in chosen or columns.answer is not None or columns.demonstration == "":
        return []
    column = chosen["demonstration"] = chosen["answer"]
    short = next((there[a] for a in _SHORT_ANSWERS if a in there and there[a] != column), None)
    if short is not None and not _holds_objects(table, short):
        chosen["answer"] = short
        return []
    if not _are_sentences([str(row[column]) for row in table.rows if row.get(column) is not None]):
        return [f"Column {column!r} is taken both for the demonstration and for the answer to score."]
    del chosen["answer"]
    return [
        f"Column {column!r} is taken for the demonstration. It holds sentences, and hardly any answer repeats one to "
        "the letter, so they are not looked for in answers. For marks, add a column final_answer with what a right "
        "answer must hold, such as a number or a name; or name this column for both."
    ]


def _are_sentences(texts: Sequence[str]) -> bool:
    """Whether most of the texts are too long to be found in another, and no scorer reads a part of them."""
    if not texts or 2 * sum(bool(_READABLE.search(text)) for text in texts) > len(texts):
        return False
    return max(median(len(text.split()) for text in texts), median(map(len, texts)) / 10) > _SHORT


def _named_by_user(table: Table, columns: Columns) -> dict[str, str]:
    chosen = {}
    for field in fields(columns):
        wanted = getattr(columns, field.name)
        if wanted:
            if wanted not in table.columns:
                raise InputError(
                    f"{table.source} has no column {wanted!r} for the {field.name}.",
                    f"Its columns are: {', '.join(table.columns)}.",
                )
            chosen[field.name] = wanted
    return chosen


def _require(table: Table, chosen: dict[str, str], need: tuple[str, ...], excused: bool) -> None:
    """Every needed field has a column; a demonstration is `excused` where something else can take its place."""
    named = [column for column in table.columns if not re.fullmatch(UNNAMED.format(r"\d+"), column)]
    title = ""
    if len(named) == 1 < len(table.columns):
        title = f"If {named[0]!r} is a title above the header, delete that line. "
    for name in need:
        if name not in chosen and not (name == "demonstration" and excused):
            raise ColumnError(
                f"{table.source} has no column for the {name}. Its columns are: {', '.join(table.columns) or 'none'}.",
                title
                + (f"Name it with --{name}-column, or rename" if "demonstration" in need else "Rename")
                + f" it to one of {', '.join(ALIASES[name][:6])}.",
                table.columns,
            )


def _holds_objects(table: Table, column: str) -> bool:
    """Whether every cell is an object or a list of objects, as the calls in tool-use data are."""
    cells: list[Any] = [row.get(column) for row in table.rows]
    return all(
        isinstance(cell, dict) or (isinstance(cell, list) and cell and all(isinstance(part, dict) for part in cell))
        for cell in cells
    )


def _unused(table: Table, chosen: dict[str, str]) -> list[str]:
    rest = [name for name in table.columns if name not in chosen.values()]
    if not rest:
        return []
    more = f" and {len(rest) - _UNUSED_AT_MOST} more" if len(rest) > _UNUSED_AT_MOST else ""
    return [f"Not used: {', '.join(map(repr, rest[:_UNUSED_AT_MOST]))}{more}."]


def _fold(name: str) -> str:
    """`Golden Response` and `golden-response` are `golden_response`."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())
