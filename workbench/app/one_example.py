"""The form on the page Examples in which one example is written, changed or deleted."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from workbench.app import rows, sheet
from workbench.app.desk import QUIET, Desk, Shared
from workbench.errors import InputError

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

    def picked(event: gr.SelectData) -> list[Any]:
        return pick(desk, event.row_value[0] if event.row_value else 0)

    table.select(picked, None, [number, *fields], **QUIET)
    number.input(partial(pick, desk), number, [number, *fields], **QUIET)
    save_row.click(partial(save, desk), [number, *place, *fields], [said, *shown], **QUIET)
    add_row.click(partial(add, desk), fields, [said, *shown, number, *fields], **QUIET)
    delete_row.click(partial(delete, desk), [number, *place], [said, *shown, number], **QUIET)
    for component, field in zip(fields, _FIELDS, strict=True):
        shared.remember(component, _key(field))
    return number


def pick(desk: Desk, place: Any) -> list[Any]:
    """A row was chosen: its number and the fields of the form."""
    try:
        number = int(place)
        row = desk.drafts.rows[number - 1] if number > 0 else {}
    except (TypeError, ValueError, IndexError):
        number, row = 0, {}
    return [number, *(rows.text_of(row.get(field)) for field in rows.FIELDS)]


def save(desk: Desk, number: float, page: float, wrong_only: bool, *texts: str) -> list[Any]:
    """The button Save this row."""

    def act() -> str:
        place = _place(number)
        if place >= len(desk.drafts.rows):
            raise InputError(f"There is no row {place + 1} any more.", "Click a row, or add this as a new one.")
        desk.drafts.edit(place, rows.changed(desk.drafts.rows[place], _entered(texts)))
        return f"Row {place + 1} was saved{_but(desk, place)}."

    return sheet.attempt(desk, act, page, wrong_only)


def add(desk: Desk, *texts: str) -> list[Any]:
    """The button Add as a new row; the table then shows its last page, and the form is empty for the next one."""
    form: list[Any] = [gr.skip()] * (1 + len(rows.FIELDS))

    def act() -> str:
        entered = _entered(texts)
        if not entered["prompt"].strip():
            raise InputError("Nothing is asked yet.", "Write a question and how somebody answered it.")
        desk.drafts.add(rows.changed({}, entered))
        form[:] = [0, *[""] * len(rows.FIELDS)]
        for field in rows.FIELDS:
            desk.drafts.type(_key(field), "")  # a field that the page empties is no news to what remembers it
        return f"Row {len(desk.drafts.rows)} was added{_but(desk, len(desk.drafts.rows) - 1)}."

    return [*sheet.attempt(desk, act, rows.pages(len(desk.drafts.rows) + 1)), *form]


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


def _but(desk: Desk, place: int) -> str:
    """What is wrong with a row that was just written, as the rest of a sentence."""
    problem = desk.drafts.problems.get(place)

    return f", but is left out. {rows.in_words(problem).rstrip('.')}" if problem else ""


def _key(field: str) -> str:
    return f"examples.form.{field}"


def _entered(texts: tuple[str, ...]) -> dict[str, str]:
    return {field: text or "" for field, text in zip(rows.FIELDS, texts, strict=True)}
