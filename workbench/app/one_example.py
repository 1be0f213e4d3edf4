"""The form on the page Examples in which one example is written, changed or deleted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from workbench.app import rows, sheet
from workbench.app.desk import QUIET, Desk, Shared
from workbench.app.history import Row
from workbench.app.notes import note
from workbench.errors import InputError

Held = list[Any] | None
"""What the form was filled with last: a row's number (0: none) and its fields; None after the page was loaded."""

_ASIDE = "examples.form.aside"
_MOST_ASIDE = 20

_FIELDS = {
    "prompt": ("What is asked", 'A conversation is written as JSON: [{"role": ..., "content": ...}, ...]'),
    "demonstration": ("The example: how somebody answered it", "The teacher reads this; the student does not."),
    "answer": ("The right answer to look for (may be empty)", "A test answer that holds this text counts as right."),
    "context": ("Article (may be empty)", "A text that the teacher reads in place of the example."),
}


def build(desk: Desk, shared: Shared, table: gr.Dataframe, place: list[Any], shown: list[Any]) -> gr.Number:
    """Declare the form and wire its handlers.

    Args:
        table: a click on one of its rows fills in the form.
        place: which rows are shown.
        shown: what `sheet.view` shows.

    Returns:
        The field with the number of the row that the form is about.
    """
    with gr.Accordion("Write or change one example", open=False):
        number = gr.Number(0, label="Row (0: a new one)", precision=0)
        fields = [
            gr.Textbox(label=label, info=info, lines=2, max_lines=10, elem_id=f"form-{field}")
            for field, (label, info) in _FIELDS.items()
        ]
        with gr.Row():
            add_row = gr.Button("Add as a new row", size="md", min_width=100)
            save_row = gr.Button("Save this row", size="md", min_width=100)
            delete_row = gr.Button("Delete this row", size="md", min_width=100)
        # Where it was pressed: what is said above the table may be out of sight.
        said = gr.HTML(elem_id="form-said", padding=False)
        back = gr.Button("Bring back what I wrote", size="sm", visible=False)
        held = gr.State(None)
    form = [held, number, *fields]

    def picked(event: gr.SelectData, held: Held, *texts: str) -> list[Any]:
        return turn_to(desk, event.row_value[0] if event.row_value else 0, held, *texts)

    table.select(picked, [held, *fields], [said, back, *form], **QUIET)
    number.input(partial(turn_to, desk), [number, held, *fields], [said, back, *form], **QUIET)
    back.click(partial(bring_back, desk), [held, *fields], [said, back, *form], **QUIET)
    save_row.click(partial(save, desk), [number, *place, *fields], [said, *shown, held], **QUIET)
    add_row.click(partial(add, desk), fields, [said, *shown, *form], **QUIET)
    delete_row.click(partial(delete, desk), [number, *place], [said, *shown, number], **QUIET)
    for component, field in zip(fields, _FIELDS, strict=True):
        shared.remember(component, _key(field))
    shared.on_load(lambda: [_offer(desk)], [back])
    return number


def turn_to(desk: Desk, place: Any, held: Held, *texts: str) -> list[Any]:
    """A row was chosen. What was written for another one and not saved is put aside; for the same one it stays.

    Args:
        held: what the form was filled with.
    """
    number, *row = pick(desk, place)
    written = _written(desk, held, texts)
    if written and number and held and number == held[0]:
        return [gr.skip(), gr.skip(), held, number, *texts]
    if not written:
        return [gr.skip(), gr.skip(), [number, *row], number, *row]
    _put_aside(desk, held, texts)
    of = f"for row {held[0]}" if held and held[0] else "in the form"
    told = note(f"What you wrote {of} is not saved; it was put aside.", "info")
    return [told, _offer(desk), [number, *row], number, *row]


def bring_back(desk: Desk, held: Held, *texts: str) -> list[Any]:
    """The button Bring back what I wrote. What stands in the form is put aside in turn, if it is not saved."""
    aside = _aside(desk)
    if not aside:
        return [note("Nothing is put aside.", "info"), _offer(desk), *[gr.skip()] * (2 + len(rows.FIELDS))]
    was, back = aside.pop()
    desk.drafts.type(_ASIDE, json.dumps(aside))
    if _written(desk, held, texts):
        _put_aside(desk, held, texts)
    # Rows may have come and gone: only the row that it was written for is changed by it.
    number = next((n for n, row in enumerate(desk.drafts.rows, start=1) if _texts(row) == was), 0)
    to = f"Save row {number}, or add it as a new one" if number else "Add it as a new row"
    told = note(f"Here is what you wrote. It is not saved yet: {to}.", "info")
    return [told, _offer(desk), [number, *was], number, *back]


def _written(desk: Desk, held: Held, texts: Sequence[str]) -> bool:
    """Whether the form holds what is saved nowhere."""
    now = [text or "" for text in texts]
    if held is not None:
        return now != held[1:]
    # The page was loaded anew, and holds what stood in the form before.
    return any(text.strip() for text in now) and all(_texts(row) != now for row in desk.drafts.rows)


def _put_aside(desk: Desk, held: Held, texts: Sequence[str]) -> None:
    was = held[1:] if held else [""] * len(rows.FIELDS)
    aside = [*_aside(desk), [was, [text or "" for text in texts]]]
    desk.drafts.type(_ASIDE, json.dumps(aside[-_MOST_ASIDE:]))


def _aside(desk: Desk) -> list[list[list[str]]]:
    """What was put aside, the oldest first: what the form was filled with, and what was written over it."""
    aside: list[list[list[str]]] = json.loads(desk.drafts.typed(_ASIDE) or "[]")
    return aside


def _offer(desk: Desk) -> Any:
    return gr.update(visible=bool(_aside(desk)))


def _texts(row: Row) -> list[str]:
    return [rows.text_of(row.get(field)) for field in rows.FIELDS]


def pick(desk: Desk, place: Any) -> list[Any]:
    """A row was chosen: its number and the fields of the form."""
    try:
        number = int(place)
        row = desk.drafts.rows[number - 1] if number > 0 else {}
    except (TypeError, ValueError, IndexError):
        number, row = 0, {}
    return [number, *_texts(row)]


def save(desk: Desk, number: float, page: float, wrong_only: bool, *texts: str) -> list[Any]:
    """The button Save this row."""
    held: Any = gr.skip()

    def act() -> str:
        nonlocal held
        place = _place(number)
        if place >= len(desk.drafts.rows):
            raise InputError(f"There is no row {place + 1} any more.", "Click a row, or add this as a new one.")
        desk.drafts.edit(place, rows.changed(desk.drafts.rows[place], _entered(texts)))
        held = [place + 1, *(text or "" for text in texts)]
        return f"Row {place + 1} was saved."

    made = sheet.attempt(desk, act, page, wrong_only)
    return [*(made if held == gr.skip() else _judged(desk, made, held[0])), held]


def add(desk: Desk, *texts: str) -> list[Any]:
    """The button Add as a new row; the table then shows its last page, and the form is empty for the next one."""
    form: list[Any] = [gr.skip()] * (2 + len(rows.FIELDS))
    number = 0

    def act() -> str:
        nonlocal number
        entered = _entered(texts)
        if not entered["prompt"].strip():
            raise InputError("Nothing is asked yet.", "Write a question and how somebody answered it.")
        desk.drafts.add(rows.changed({}, entered))
        empty = [0, *[""] * len(rows.FIELDS)]
        form[:] = [empty, *empty]
        for field in rows.FIELDS:
            desk.drafts.type(_key(field), "")  # a field that the page empties is no news to what remembers it
        number = len(desk.drafts.rows)
        return f"Row {number} was added."

    made = sheet.attempt(desk, act, rows.pages(len(desk.drafts.rows) + 1))
    return [*(_judged(desk, made, number) if number else made), *form]


def delete(desk: Desk, number: float, page: float, wrong_only: bool) -> list[Any]:
    """The button Delete this row. Afterwards the form is about none: its number would be the next row's."""
    chosen = number

    def act() -> str:
        nonlocal chosen
        desk.drafts.delete(_place(number))
        chosen = 0
        return f"Row {int(number)} was deleted; Undo brings it back."

    return [*sheet.attempt(desk, act, page, wrong_only), chosen]


def _place(number: float) -> int:
    """Where the chosen row is, from 0."""
    if int(number or 0) < 1:
        raise InputError("No row is chosen.", "Click a row in the table, or add this as a new one.")
    return int(number) - 1


def _judged(desk: Desk, made: list[Any], number: int) -> list[Any]:
    """What `sheet.attempt` made of a row that was written; what is wrong with the row is said, if anything is."""
    problem = desk.drafts.problems.get(number - 1)
    if not problem:
        return made
    return [note(f"Row {number} was kept as it is, but is left out. {rows.in_words(problem)}", "wrong"), *made[1:]]


def _key(field: str) -> str:
    return f"examples.form.{field}"


def _entered(texts: tuple[str, ...]) -> dict[str, str]:
    return {field: text or "" for field, text in zip(rows.FIELDS, texts, strict=True)}
