"""The page Examples: what the model is taught from, which of it is kept back, and what must stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api

from workbench.app import cache, code, downloading, fixing, intake, rows, samples
from workbench.app.desk import PRIVATE, Cursor, Desk, Shared
from workbench.app.notes import note, wrong
from workbench.demonstrations.tables import EXTENSIONS
from workbench.errors import InputError, WorkbenchError

# Gradio marks a column that is not to be edited by a label on an element that may have none, which axe finds serious.
_MEND = """
new MutationObserver(() => document.querySelectorAll('[aria-label="Static column"]').forEach(
  place => place.removeAttribute('aria-label')
)).observe(document.body, {childList: true, subtree: true});
"""
_VIEW = 9
_GUESS = "(guess)"
_COLUMNS = {
    "prompt": "Column of what is asked",
    "demonstration": "Column of the example's answer",
    "answer": "Column of the right answer",
    "context": "Column of the article",
}
_FORM = {
    "prompt": ("What is asked", 'A conversation is written as JSON: [{"role": ..., "content": ...}, ...]'),
    "demonstration": ("The example: how somebody answered it", "The teacher reads this; the student does not."),
    "answer": ("The right answer to look for (may be empty)", "A test answer that holds this text counts as right."),
    "context": ("Article (may be empty)", "A text that the teacher reads in place of the example."),
}


def summary(desk: Desk) -> str:
    """How many rows teach, are kept back, are wrong."""
    drafts = desk.drafts
    if not drafts.rows:
        return note("There are no examples yet. Use a sample set, paste some rows, or upload a file.", "info")
    wrongs, good = len(drafts.problems), len(drafts.good)
    said = (
        f"{wrongs} of {len(drafts.rows)} rows {'is' if wrongs == 1 else 'are'} wrong and left out; see below why.\n"
        if wrongs
        else ""
    )
    try:
        parts = drafts.split()
    except WorkbenchError as error:
        return note(said + str(error), "wrong")
    scored = sum(row.answer is not None for row in parts.held_out)
    test = "" if scored == len(parts.held_out) else f", {scored} of which have a right answer to look for"
    kept = f" {len(drafts.keep)} questions are to keep their answers." if drafts.keep else ""
    return note(
        f"{said}{good} examples in {drafts.name}: {len(parts.teaching)} will teach, {len(parts.held_out)} "
        f"{'is' if len(parts.held_out) == 1 else 'are'} kept back for the test{test}.{kept}",
        "info",
    )


def view(desk: Desk, page: float = 1, wrong_only: bool = False) -> list[Any]:
    """What the table and what stands around it show; `_VIEW` is how many that are."""
    drafts = desk.drafts
    count = len(drafts.problems) if wrong_only else len(drafts.rows)
    last = rows.pages(count)
    page = min(max(1, int(page or 1)), last)
    undo = f"Undo ({drafts.changes})" if drafts.changes else "Undo"
    return [
        {"headers": list(rows.HEADERS), "data": rows.lines(drafts, page, wrong_only)},
        drafts.edition,
        summary(desk),
        gr.update(maximum=max(2, last), value=page, visible=last > 1),
        gr.update(value=undo, interactive=bool(drafts.changes)),
        gr.update(interactive=bool(drafts.rows or drafts.keep)),
        *(gr.update(visible=bool(drafts.problems) or wrong_only) for _ in range(3)),
    ]


def as_file(desk: Desk) -> Path | None:
    """The good rows and the keep list as JSON lines, for the button Download."""
    drafts = desk.drafts
    if not drafts.rows and not drafts.keep:
        return None
    lines = [row.to_dict() for row in drafts.good] + [dict(row) for row in drafts.keep]
    file = cache.fresh("examples-") / f"{drafts.files()[0].stem}.jsonl"
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    file.write_text(text, encoding="utf-8", newline="\n")
    return file


def attempt(desk: Desk, act: Callable[[], str], page: float = 1, wrong_only: bool = False) -> list[Any]:
    """Do something to the examples, and say what was done or why it was not; then `view`."""
    try:
        said = note(act())
    except WorkbenchError as error:
        said = wrong(error)
    return [said, *view(desk, page, wrong_only)]


def after_reading(desk: Desk, act: Callable[[], str]) -> list[Any]:
    """As `attempt`, and the columns that were taken."""
    return [*attempt(desk, act), *columns(desk)]


def columns(desk: Desk) -> list[Any]:
    """The guess of each column: the notes, whether to show them, and a list for each field."""
    last = intake.latest(desk)
    choices = [_GUESS, *last.there]
    lists = [gr.update(choices=choices, value=last.chosen.get(field, _GUESS)) for field in rows.FIELDS]
    return [gr.update(visible=bool(last.there)), note("\n".join(last.notes), "info"), *lists]


def use_sample(desk: Desk, name: str) -> list[Any]:
    """The button Use this set."""
    return after_reading(desk, lambda: intake.use_sample(desk, name))


def use_text(desk: Desk, text: str, add: bool) -> list[Any]:
    """The button Use what I pasted."""
    return after_reading(desk, lambda: intake.use_text(desk, text or "", add))


def use_file(desk: Desk, path: str | None, add: bool) -> list[Any]:
    """A file was uploaded."""
    if not path:
        return [gr.skip()] * (1 + _VIEW + 2 + len(rows.FIELDS))
    return after_reading(desk, lambda: intake.use_file(desk, path, add))


def read_again(desk: Desk, *chosen: str | None) -> list[Any]:
    """Another column was chosen."""
    wanted = {f: None if c == _GUESS else c for f, c in zip(rows.FIELDS, chosen, strict=True)}
    return after_reading(desk, lambda: intake.read_again(desk, wanted))


def edit_table(desk: Desk, table: list[list[Any]], edition: str, page: float, wrong_only: bool) -> list[Any]:
    """Cells were changed in the table. It is drawn anew only where more than those cells has changed."""
    if edition != desk.drafts.edition or _refused_before(desk, table, page, wrong_only):
        desk.tasks["examples.refused"] = [*desk.tasks.get("examples.refused", ())[-7:], table]
        said = "The examples were changed elsewhere meanwhile, so this change was not taken. Here they are as they are."
        return [note(said, "wrong"), *view(desk, page, wrong_only)]
    if any(len(line) != len(rows.HEADERS) for line in table):
        # A file that is dropped on the table, or a column that was added to it.
        said = "These are not the table's columns, so nothing was changed. Use Upload examples for a file."
        return [note(said, "wrong"), *view(desk, page, wrong_only)]
    edited, new = rows.take(desk.drafts, table)
    if not edited and not new:
        return [gr.skip()] * (1 + _VIEW)
    said = f"{edited} row{'s' if edited != 1 else ''} changed." if edited else f"{new} added."
    shown = view(desk, page, wrong_only)
    if not new and [list(map(str, line)) for line in table] == [list(map(str, line)) for line in shown[0]["data"]]:
        shown[0] = gr.skip()
    return [note(said), *shown]


def _refused_before(desk: Desk, table: list[list[Any]], page: float, wrong_only: bool) -> bool:
    """Whether a table is one that was refused, and not the one that was drawn in its place.

    A browser may send it a second time, with the edition of the new one: taken over, it would put all its rows in
    place of those that were changed meanwhile.
    """
    now = rows.lines(desk.drafts, min(max(1, int(page or 1)), rows.pages(len(desk.drafts.rows))), wrong_only)
    apart = rows.differing(table, now)
    return any(rows.differing(table, old) < apart for old in desk.tasks.get("examples.refused", ()))


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
        place = int(number or 0) - 1
        if not 0 <= place < len(desk.drafts.rows):
            raise InputError("No row is chosen.", "Click a row in the table, or add this as a new one.")
        desk.drafts.edit(place, rows.changed(desk.drafts.rows[place], _entered(texts)))
        return f"Row {place + 1} was saved."

    return attempt(desk, act, page, wrong_only)


def add(desk: Desk, *texts: str) -> list[Any]:
    """The button Add as a new row; the table then shows its last page."""

    def act() -> str:
        entered = _entered(texts)
        if not entered["prompt"].strip():
            raise InputError("Nothing is asked yet.", "Write a question and how somebody answered it.")
        desk.drafts.add(rows.changed({}, entered))
        return f"Row {len(desk.drafts.rows)} was added."

    return attempt(desk, act, rows.pages(len(desk.drafts.rows) + 1))


def delete(desk: Desk, number: float, page: float, wrong_only: bool) -> list[Any]:
    """The button Delete this row."""

    def act() -> str:
        desk.drafts.delete(int(number or 0) - 1)
        return f"Row {int(number)} was deleted; Undo brings it back."

    return attempt(desk, act, page, wrong_only)


def delete_wrong(desk: Desk) -> list[Any]:
    """The button Delete all wrong rows."""

    def act() -> str:
        places = list(desk.drafts.problems)
        desk.drafts.delete(*places)
        return f"{len(places)} rows were deleted; Undo brings them back." if places else "No row is wrong."

    return attempt(desk, act)


def undo(desk: Desk, page: float, wrong_only: bool) -> list[Any]:
    """The button Undo."""
    return attempt(
        desk, lambda: "The last change was taken back." if desk.drafts.undo() else "Nothing to undo.", page, wrong_only
    )


def choose(desk: Desk, held_out: float, strict: bool) -> str:
    """The share that is kept back, and whether wrong rows block the others."""
    desk.drafts.choose(held_out=round(float(held_out) / 100, 2), strict=bool(strict))
    return summary(desk)


def poll(desk: Desk, cursor: Cursor) -> list[Any]:
    """The summary; the table is no output here, or a cell would be drawn over while somebody writes in it."""
    if cursor.get("examples.version") == desk.drafts.version:
        return [gr.skip()]
    cursor["examples.version"] = desk.drafts.version
    return [summary(desk)]


def _load(desk: Desk, sample: str, text: str, add: bool) -> dict[str, Any]:
    if bool(sample) == bool(text):
        raise gr.Error("Give either the name of a sample set or a text.", print_exception=False)
    try:
        said = intake.use_sample(desk, sample) if sample else intake.use_text(desk, text, add)
        parts = desk.drafts.split()
    except WorkbenchError as error:
        raise gr.Error(str(error), print_exception=False) from error
    problems = {str(place + 1): problem for place, problem in desk.drafts.problems.items()}
    counts = {"teaching": len(parts.teaching), "held_out": len(parts.held_out), "keep": len(desk.drafts.keep)}
    return {"name": desk.drafts.name, "rows": len(desk.drafts.rows), **counts, "problems": problems, "said": said}


def _entered(texts: tuple[str, ...]) -> dict[str, str]:
    return {field: text or "" for field, text in zip(rows.FIELDS, texts, strict=True)}


def build(desk: Desk, shared: Shared) -> None:
    """Declare the page's components and wire their handlers; called inside its tab."""
    gr.HTML(
        "<p>Show the model what you want: questions, each with an answer somebody gave. Some are kept back, to test "
        "what it learned.</p>",
        padding=False,
        js_on_load=_MEND,
    )
    with gr.Row():
        with gr.Column(min_width=280):
            sample = gr.Dropdown(
                [(s.label, s.name) for s in samples.SAMPLES], value=samples.SAMPLES[0].name, label="Sample set"
            )
            about = gr.HTML(note(samples.SAMPLES[0].about, "plain"), padding=False)
            use = gr.Button("Use this set", variant="primary")
        with gr.Column(min_width=280):
            pasted = gr.Textbox(
                label="Paste examples",
                lines=4,
                max_lines=12,
                placeholder="How do you say red ball? => mipa tolu\nor JSON lines, or cells copied from a sheet",
            )
            use_pasted = gr.Button("Use what I pasted")
        with gr.Column(min_width=280):
            upload = gr.File(
                label="Upload examples", file_types=list(EXTENSIONS), type="filepath", height=150, elem_id="upload"
            )
            more = gr.Checkbox(label="Add to the examples that are there", value=False)
    with gr.Group(visible=False) as guesses:
        guess_notes = gr.HTML(padding=True)
        with gr.Row():
            lists = [gr.Dropdown([_GUESS], value=_GUESS, label=label, min_width=150) for label in _COLUMNS.values()]
    said = gr.HTML(elem_id="examples-said", padding=False)
    counts = gr.HTML(summary(desk), elem_id="examples-summary", padding=False)
    table = gr.Dataframe(
        headers=list(rows.HEADERS),
        datatype=["number", "str", "str", "str", "str", "str"],
        type="array",
        interactive=True,
        wrap=True,
        static_columns=[0, 1],
        column_widths=["64px", "110px", "250px", "250px", "142px", "142px"],
        max_height=360,
        max_chars=160,
        label="Your examples: click a cell to change it",
        buttons=[],
        elem_id="examples-table",
    )
    edition = gr.State("")
    with gr.Row():
        page = gr.Slider(1, 2, value=1, step=1, label=f"Page of {rows.PAGE} rows", visible=False, min_width=180)
        wrong_only = gr.Checkbox(label="Only wrong rows", value=False, min_width=140, visible=False)
        strict = gr.Checkbox(label="Wrong rows block the good ones", value=False, min_width=140, visible=False)
        held_out = gr.Slider(5, 50, value=30, step=5, label="Kept back for the test, in percent", min_width=180)
    with gr.Row():
        back = gr.Button("Undo", size="md", min_width=100)
        sweep = gr.Button("Delete all wrong rows", size="md", min_width=100, visible=False)
        download = downloading.button(partial(as_file, desk), size="md", min_width=100)
    with gr.Accordion("Write or change one example", open=False):
        number = gr.Number(0, label="Row (0: a new one)", precision=0, minimum=0)
        form = [
            gr.Textbox(label=label, info=info, lines=2, max_lines=10, elem_id=f"form-{field}")
            for field, (label, info) in _FORM.items()
        ]
        with gr.Row():
            add_row = gr.Button("Add as a new row", size="md", min_width=100)
            save_row = gr.Button("Save this row", size="md", min_width=100)
            delete_row = gr.Button("Delete this row", size="md", min_width=100)
    shown = [table, edition, counts, page, back, download, wrong_only, strict, sweep]
    guessed = [guesses, guess_notes, *lists]

    use.click(partial(use_sample, desk), sample, [said, *shown, *guessed], **PRIVATE)
    sample.change(lambda name: note(samples.find(name).about, "plain"), sample, about, **PRIVATE)
    use_pasted.click(partial(use_text, desk), [pasted, more], [said, *shown, *guessed], **PRIVATE)
    upload.upload(partial(use_file, desk), [upload, more], [said, *shown, *guessed], **PRIVATE)
    for choice in lists:
        choice.input(partial(read_again, desk), lists, [said, *shown, *guessed], **PRIVATE)
    place = [page, wrong_only]
    table.input(
        partial(edit_table, desk), [table, edition, *place], [said, *shown], trigger_mode="always_last", **PRIVATE
    )
    for changed in (page.release, wrong_only.input):
        changed(partial(view, desk), place, shown, **PRIVATE)

    for reading in (use.click, use_pasted.click, upload.upload):
        # The form spoke of a row of the set before.
        reading(lambda: 0, None, number, **PRIVATE)

    def picked(event: gr.SelectData) -> list[Any]:
        return pick(desk, event.row_value[0] if event.row_value else 0)

    table.select(picked, None, [number, *form], **PRIVATE)
    number.input(partial(pick, desk), number, [number, *form], **PRIVATE)
    save_row.click(partial(save, desk), [number, *place, *form], [said, *shown], **PRIVATE)
    add_row.click(partial(add, desk), form, [said, *shown], **PRIVATE)
    delete_row.click(partial(delete, desk), [number, *place], [said, *shown], **PRIVATE)
    sweep.click(partial(delete_wrong, desk), None, [said, *shown], **PRIVATE)
    back.click(partial(undo, desk), place, [said, *shown], **PRIVATE)
    held_out.release(partial(choose, desk), [held_out, strict], counts, **PRIVATE)
    strict.input(partial(choose, desk), [held_out, strict], counts, **PRIVATE)

    fixing.build(desk, shared, number, partial(view, desk), shown)
    onward = gr.Button("Next: Check", size="sm", elem_classes="onward")
    onward.click(lambda: gr.Tabs(selected="check"), None, shared.tabs, **PRIVATE)
    code.button(partial(code.examples, desk))

    shared.remember(pasted, "examples.pasted")
    for component, field in zip(form, _FORM, strict=True):
        shared.remember(component, f"examples.form.{field}")
    shared.on_load(lambda: [*view(desk), *columns(desk)], [*shown, *guessed])
    shared.on_load(lambda: [round(desk.drafts.choices.held_out * 100), desk.drafts.choices.strict], [held_out, strict])
    shared.on_tick(partial(poll, desk), [counts])

    def load_demonstrations(sample: str = "", text: str = "", add: bool = False) -> dict[str, Any]:
        """Put examples in place of those that are there, and say how they are split.

        Parameters:
            sample: name of a bundled set, such as `zorbic`.
            text: rows as JSON lines, a table, `Q:` and `A:`, or lines of `question => answer`; instead of `sample`.
            add: put the rows of `text` after those that are there.
        Returns:
            name, rows, teaching, held_out, keep (numbers of rows), problems (by row number), said.
        """
        return _load(desk, sample, text, add)

    api(load_demonstrations, api_name="load_demonstrations")
