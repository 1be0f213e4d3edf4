"""From a table of cells to demonstrations: every row is checked, and all that are wrong are told at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.demonstrations.cells import checked, flag, is_blank, is_number, label, tags, written
from workbench.demonstrations.columns import Columns, choose, known_as
from workbench.demonstrations.record import Demonstration, Message
from workbench.demonstrations.splitting import contradiction, repetition
from workbench.demonstrations.table import Table, wrong_rows
from workbench.demonstrations.tables import load_table, pasted
from workbench.demonstrations.turns import answer_in, conversation, joined, unpacked, with_its_question
from workbench.errors import InputError

_NAMES_AT_MOST = 5


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
    """Read demonstrations from JSONL, JSON, CSV, TSV, Parquet, XLSX or text, or a set that comes along by its name.

    Raises:
        InputError: the file or any of its rows is wrong; the rows are named and nothing is returned.
    """
    return _interpret(load_table(Path(path), columns != Columns()), columns, need=("prompt", "demonstration"))


def parse(text: str, columns: Columns = Columns()) -> Reading:
    """Read pasted text: JSON lines, a table of a sheet or of Markdown, `Q:` and `A:`, or `question => answer` lines."""
    if "\x00" in text:
        raise InputError("The pasted text has a NUL character.", "Copy it again as plain text.")
    return _interpret(pasted(text, headed=columns != Columns()), columns, need=("prompt", "demonstration"))


def read_questions(path: Path | str, need_answer: bool = False) -> Reading:
    """Read rows that need only a prompt (keep rows), or a prompt and an answer (probes)."""
    need = ("prompt", "answer") if need_answer else ("prompt",)
    return _interpret(load_table(Path(path)), Columns(), need=need)


def _interpret(table: Table, columns: Columns, need: tuple[str, ...]) -> Reading:
    try:
        chosen, notes = choose(table, columns, need)
    except InputError:
        table.refuse_unread()  # a header that cannot be made out may be one of them
        raise
    rows: list[Demonstration] = []
    problems = {line.number: line.problem for line in table.unread}
    for number, cells in zip(table.numbers, table.rows, strict=True):
        try:
            rows.append(_row(cells, chosen, need, columns.demonstration is not None))
        except ValueError as error:
            problems[number] = f": {error}"
    if len(problems) == len(table.unread) == 1:
        table.refuse_unread()  # which says what to do about that very line
    if problems:
        raise _wrong(table, problems)
    if "demonstration" in need:
        notes += [*_about_answers(table, chosen, rows), *filter(None, [repetition(rows), contradiction(rows)])]
    return Reading(tuple(rows), chosen, (*table.notes, *notes))


def _wrong(table: Table, problems: dict[int, str]) -> InputError:
    """All that is wrong with the rows, and with the lines that are none, in the order of the file."""
    told = [f"{table.unit} {n}{'' if said.startswith(':') else ' '}{said}" for n, said in sorted(problems.items())]
    more = len(told) - _NAMES_AT_MOST
    listed = "\n  ".join(told[:_NAMES_AT_MOST]) + (f"\n  and {more} more" if more > 0 else "")
    # As a person finds them in the file; the page, which shows no header, counts otherwise.
    headed = table.unit == "row" and min(table.numbers) > 1
    counted = "rows, which are numbered as a spreadsheet does" if headed else f"{table.unit}s"
    # Where nothing else is wrong, what to do about such a line is worth saying.
    same = {line.advice for line in table.unread} if len(told) == len(table.unread) else set()
    also = f" {same.pop()}" if len(same) == 1 else ""
    return InputError(
        f"{table.source}: {wrong_rows(len(told), len(table.rows) + len(table.unread))}.\n  {listed}",
        f"Correct or delete these {counted}; nothing was written.{also}",
    )


def _about_answers(table: Table, chosen: dict[str, str], rows: list[Demonstration]) -> list[str]:
    if "answer" not in chosen:
        if known_as("answer", chosen.get("demonstration", "")):
            return []  # it has been said why that column is not looked for
        return ["There is no answer column: the model can be taught, but nothing can be scored."]
    asked = [row for row in rows if not row.keep]
    lacking = sum(row.answer is None for row in asked)
    numbers = [cells[chosen["answer"]] for cells in table.rows if is_number(cells.get(chosen["answer"]))]
    notes = []
    if numbers:
        notes.append(f"The numbers in column {chosen['answer']!r} are read as texts, such as {written(numbers[0])!r}.")
    if lacking:
        they = "has no answer, so it teaches but is" if lacking == 1 else "have no answer, so they teach but are"
        notes.append(f"{lacking} of {len(asked)} rows {they} not scored.")
    return notes


def _row(cells: dict[str, Any], chosen: dict[str, str], need: tuple[str, ...], named: bool = False) -> Demonstration:
    """One row, or ValueError with what is wrong with which column.

    Args:
        named: whether somebody named the column of the demonstrations, which then stands over a conversation's last
            turn.
    """
    keep = flag(cells.get(chosen.get("keep", ""), False), chosen.get("keep", "keep"))
    prompt, last_turn = _prompt(cells, chosen)
    demonstration = last_turn
    if "demonstration" in chosen and not keep and (named or last_turn is None):
        needed = "demonstration" in need and ("context" not in chosen or is_blank(cells.get(chosen["context"])))
        # A column of answers may be taken for the demonstrations too; then its numbers are texts here as well.
        numbers = chosen["demonstration"] == chosen.get("answer")
        asked = cells.get(chosen["prompt"])
        demonstration = _text(
            {chosen["demonstration"]: with_its_question(cells.get(chosen["demonstration"]), asked)},
            chosen["demonstration"],
            lists=answer_in,
            numbers=numbers,
            optional=not needed,
        )
    answer = None
    if "answer" in chosen and not keep:
        answer = _text(cells, chosen["answer"], numbers=True, optional="answer" not in need)
    context = _text(cells, chosen["context"], lists=joined, optional=True) if "context" in chosen else None
    if demonstration is None and context is None and "demonstration" in need and not keep:
        raise ValueError("it has no demonstration: no such column, and the conversation ends with a user turn")
    return Demonstration(
        prompt=prompt,
        demonstration=None if keep else demonstration,
        answer=answer,
        context=None if keep else context,
        id=label(cells.get(chosen.get("id", ""))),
        tags=tags(cells.get(chosen.get("tags", "")), chosen.get("tags", "tags")),
        keep=keep,
    )


def _prompt(cells: dict[str, Any], chosen: dict[str, str]) -> tuple[str | tuple[Message, ...], str | None]:
    """The prompt; of a conversation that ends with an assistant turn, that turn as the demonstration too."""
    column = chosen["prompt"]
    value = unpacked(cells.get(column))
    if isinstance(value, list):
        return conversation(value, column)
    text = _text(cells, column, optional=False)
    assert text is not None
    if "input" in chosen:
        more = _text(cells, chosen["input"], optional=True)
        text = f"{text}\n\n{more}" if more else text
    return text, None


def _text(
    cells: dict[str, Any],
    column: str,
    *,
    optional: bool,
    lists: Callable[[Any, str], Any] | None = None,
    numbers: bool = False,
) -> str | None:
    """A cell's text.

    Args:
        optional: a blank cell is None and no mistake.
        lists: makes one text of a list of texts (such as `golden_response`) or of messages.
        numbers: a number is written out.
    """
    value: Any = cells.get(column)
    if optional and is_blank(value):
        return None
    if lists is not None:
        value = lists(value, column)
    if numbers and is_number(value):
        value = written(value)
    return checked(value, repr(column))
