"""From a table of cells to demonstrations: which column is what, and is every cell what it should be?

The aliases are those of the field's datasets and trainers. A guess is always said, and can be overruled.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from workbench.demonstrations.record import Demonstration, Message
from workbench.demonstrations.tables import Table, load_table, pasted
from workbench.errors import InputError

LONGEST_CELL = 100_000
"""Most characters of one cell: a longer one is a mistake, and no model that fits a GPU reads it."""

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
_MESSAGES = ("messages", "conversations", "conversation", "chat")
_NAMES_AT_MOST = 5
_TRUE = ("true", "1", "yes", "keep")


@dataclass(frozen=True, slots=True)
class Columns:
    """The user's word on which column holds what; None leaves it to the guess."""

    prompt: str | None = None
    demonstration: str | None = None
    answer: str | None = None
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file held.

    Attributes:
        rows: the demonstrations, in the file's order.
        columns: which column was taken for each field: the stated guess.
        notes: plain sentences about what was guessed or left out.
    """

    rows: tuple[Demonstration, ...]
    columns: dict[str, str]
    notes: tuple[str, ...]


def read(path: Path | str, columns: Columns = Columns()) -> Reading:
    """Read demonstrations from JSONL, JSON, CSV, TSV, Parquet, XLSX or text.

    Raises:
        InputError: the file or any of its rows is wrong; the rows are named and nothing is returned.
    """
    return _interpret(load_table(Path(path)), columns, need=("prompt", "demonstration"))


def parse(text: str, columns: Columns = Columns()) -> Reading:
    """Read pasted text: JSON lines, a table copied from a sheet, or lines of `question => answer`."""
    if "\x00" in text:
        raise InputError("The pasted text has a NUL character.", "Copy it again as plain text.")
    return _interpret(pasted(text), columns, need=("prompt", "demonstration"))


def read_questions(path: Path | str, need_answer: bool = False) -> Reading:
    """Read rows that need only a prompt (keep rows), or a prompt and an answer (probes)."""
    need = ("prompt", "answer") if need_answer else ("prompt",)
    return _interpret(load_table(Path(path)), Columns(), need=need)


def _interpret(table: Table, columns: Columns, need: tuple[str, ...]) -> Reading:
    chosen, notes = _choose(table, columns, need)
    rows: list[Demonstration] = []
    problems: list[str] = []
    for number, cells in zip(table.numbers, table.rows, strict=True):
        try:
            rows.append(_row(cells, chosen, need))
        except ValueError as error:
            problems.append(f"{table.unit} {number}: {error}")
    if problems:
        more = len(problems) - _NAMES_AT_MOST
        listed = "\n  ".join(problems[:_NAMES_AT_MOST]) + (f"\n  and {more} more" if more > 0 else "")
        raise InputError(
            f"{table.source}: {len(problems)} of {len(table.rows)} rows are wrong.\n  {listed}",
            "Correct or delete these rows; nothing was written.",
        )
    if "answer" not in chosen and "demonstration" in need:
        notes.append("There is no answer column: the model can be taught, but nothing can be scored.")
    return Reading(tuple(rows), chosen, tuple(notes))


def _choose(table: Table, columns: Columns, need: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Which column is taken for each field, and a sentence about it."""
    there = {name.strip().lower(): name for name in reversed(table.columns)}
    chosen: dict[str, str] = {}
    for field in fields(columns):
        wanted = getattr(columns, field.name)
        if wanted is not None:
            if wanted not in table.columns:
                raise InputError(
                    f"{table.source} has no column {wanted!r} for the {field.name}.",
                    f"Its columns are: {', '.join(table.columns)}.",
                )
            chosen[field.name] = wanted
    taken = set(chosen.values())
    for name, aliases in ALIASES.items():
        found = next((there[a] for a in aliases if a in there and there[a] not in taken), None)
        if name not in chosen and found is not None:
            chosen[name] = found
            taken.add(found)
    messages = next((there[a] for a in _MESSAGES if a in there), None)
    if messages is not None and columns.prompt is None:
        chosen["prompt"] = messages
    notes = []
    lacking = "demonstration" in need and "demonstration" not in chosen and messages is None
    if lacking and "answer" in chosen and columns.answer is None:
        chosen["demonstration"] = chosen["answer"]
        notes.append(f"Column {chosen['answer']!r} is taken both for the demonstration and for the answer to score.")
    if "instruction" in there and chosen.get("prompt") == there["instruction"] and "input" in there:
        chosen["input"] = there["input"]
    for name in need:
        keeps = name == "demonstration" and (messages is not None or "keep" in there or "context" in chosen)
        if name not in chosen and not keeps:
            raise InputError(
                f"{table.source} has no column for the {name}. Its columns are: {', '.join(table.columns) or 'none'}.",
                f"Name it with --{name}-column, or rename it to one of {', '.join(ALIASES[name][:6])}.",
            )
    guessed = [f"{field} from column {column!r}" for field, column in chosen.items() if field != column]
    if guessed:
        notes.insert(0, "Read " + ", ".join(guessed) + ".")
    for extra, aliases in (("id", ("id",)), ("tags", ("tags", "tag", "category")), ("keep", ("keep",))):
        found = next((there[a] for a in aliases if a in there), None)
        if found is not None:
            chosen[extra] = found
    return chosen, notes


def _row(cells: dict[str, Any], chosen: dict[str, str], need: tuple[str, ...]) -> Demonstration:
    """One row, or ValueError with what is wrong with which column."""
    keep = _flag(cells.get(chosen.get("keep", ""), False), chosen.get("keep", "keep"))
    prompt, last_turn = _prompt(cells, chosen)
    demonstration = last_turn
    if "demonstration" in chosen and not keep and last_turn is None:
        needed = "demonstration" in need and _absent(cells, chosen, "context")
        demonstration = _text(cells, chosen["demonstration"], lines=True, optional=not needed)
    answer = None
    if "answer" in chosen and not keep:
        answer = _text(cells, chosen["answer"], optional="answer" not in need)
    context = _text(cells, chosen["context"], optional=True) if "context" in chosen else None
    if demonstration is None and context is None and "demonstration" in need and not keep:
        raise ValueError("it has no demonstration: no such column, and the conversation ends with a user turn")
    return Demonstration(
        prompt=prompt,
        demonstration=None if keep else demonstration,
        answer=answer,
        context=None if keep else context,
        id=_label(cells.get(chosen.get("id", ""))),
        tags=_tags(cells.get(chosen.get("tags", "")), chosen.get("tags", "tags")),
        keep=keep,
    )


def _absent(cells: dict[str, Any], chosen: dict[str, str], name: str) -> bool:
    return name not in chosen or cells.get(chosen[name]) in (None, "")


def _prompt(cells: dict[str, Any], chosen: dict[str, str]) -> tuple[str | tuple[Message, ...], str | None]:
    """The prompt; of a conversation that ends with an assistant turn, that turn as the demonstration too."""
    column = chosen["prompt"]
    value = cells.get(column)
    if isinstance(value, list):
        return _conversation(value, column)
    text = _text(cells, column, optional=False)
    assert text is not None
    if "input" in chosen:
        more = _text(cells, chosen["input"], optional=True)
        text = f"{text}\n\n{more}" if more else text
    return text, None


def _conversation(value: list[Any], column: str) -> tuple[tuple[Message, ...], str | None]:
    messages: list[Message] = []
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, dict):
            raise ValueError(
                f"column {column!r} is a list, but its item {number} is not a message with role and content"
            )
        role = turn.get("role", {"human": "user", "gpt": "assistant"}.get(str(turn.get("from")), turn.get("from")))
        content = turn.get("content", turn.get("value"))
        if role not in ("system", "user", "assistant"):
            raise ValueError(
                f"column {column!r}, message {number} has the role {role!r}, not system, user or assistant"
            )
        messages.append(Message(role=role, content=_checked(content, f"{column!r}, message {number}")))
    last_turn = messages.pop()["content"] if messages and messages[-1]["role"] == "assistant" else None
    if not messages or messages[-1]["role"] != "user":
        raise ValueError(f"column {column!r} has no user turn before the answer")
    return tuple(messages), last_turn


def _text(cells: dict[str, Any], column: str, optional: bool, lines: bool = False) -> str | None:
    """A cell's text; with `lines`, a list of texts is joined by line breaks, as `golden_response` is."""
    value = cells.get(column)
    if optional and (value is None or (isinstance(value, str) and not value.strip())):
        return None
    if lines and isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = "\n".join(value)
    return _checked(value, repr(column))


def _checked(value: Any, where: str) -> str:
    if value is None:
        raise ValueError(f"column {where} is missing or null")
    if isinstance(value, bool) or not isinstance(value, str):
        kind = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else f"{value!r}"
        fix = "put it in quotes, or format the cell as text" if isinstance(value, int | float) else "a text is needed"
        raise ValueError(f"column {where} is {kind}, not a text: {fix}")
    if not value.strip():
        raise ValueError(f"column {where} is blank")
    if len(value) > LONGEST_CELL:
        raise ValueError(f"column {where} has {len(value):,} characters; at most {LONGEST_CELL:,} are read")
    if "\x00" in value:
        raise ValueError(f"column {where} has a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"column {where} has half of a surrogate pair, which is no character") from None
    return value


def _flag(value: Any, column: str) -> bool:
    if isinstance(value, bool):
        return value
    if value is None or isinstance(value, str):
        return (value or "").strip().lower() in _TRUE
    raise ValueError(f"column {column!r} is {value!r}, not true or false")


def _label(value: Any) -> str | None:
    if value is None or isinstance(value, list | dict | bool):
        return None
    text = str(value).strip()
    return _checked(text, "'id'")[:200] if text else None


def _tags(value: Any, column: str) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    parts = value if isinstance(value, list) else str(value).split(",")
    return tuple(_checked(part, repr(column)).strip() for part in parts if part != "")
