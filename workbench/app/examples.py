"""The page Examples: what the model is taught from, which of it is kept back, and what must stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.events import api

from workbench.app import cache, code, downloading, fixing, intake, misfits, one_example, rows, samples, sheet
from workbench.app.desk import QUIET, Cursor, Desk, Shared
from workbench.app.notes import note
from workbench.demonstrations.tables import EXTENSIONS
from workbench.errors import WorkbenchError

# Gradio marks a column that is not to be edited by a label on an element that may have none, which axe finds serious.
_MEND = """
new MutationObserver(() => document.querySelectorAll('[aria-label="Static column"]').forEach(
  place => place.removeAttribute('aria-label')
)).observe(document.body, {childList: true, subtree: true});
"""
_GUESS = "(guess)"
_NONE = ("(none)", "")
_COLUMNS = {
    "prompt": "Column of what is asked",
    "demonstration": "Column of the example's answer",
    "answer": "Column of the right answer",
    "context": "Column of the article",
}


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


def after_reading(desk: Desk, act: Callable[[], str]) -> list[Any]:
    """As `sheet.attempt`, and the columns that were taken."""
    return [*sheet.attempt(desk, act), *columns(desk)]


def columns(desk: Desk) -> list[Any]:
    """The guess of each column: the notes, whether to show them, and a list for each field."""
    last = intake.latest(desk)
    lists = []
    for field in rows.FIELDS:
        choices = [_GUESS, *([] if field == "prompt" else [_NONE]), *last.there]
        lists.append(gr.update(choices=choices, value=last.chosen.get(field, _GUESS)))
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
        return [gr.skip()] * (1 + sheet.VIEW + 2 + len(rows.FIELDS))
    return after_reading(desk, lambda: intake.use_file(desk, path, add))


def read_again(desk: Desk, *chosen: str | None) -> list[Any]:
    """Another column was chosen."""
    wanted = {f: None if c == _GUESS else c for f, c in zip(rows.FIELDS, chosen, strict=True)}
    return after_reading(desk, lambda: intake.read_again(desk, wanted))


def delete_wrong(desk: Desk) -> list[Any]:
    """The button Delete all wrong rows."""

    def act() -> str:
        places = list(desk.drafts.problems)
        desk.drafts.delete(*places)
        if len(places) == 1:
            return "1 row was deleted; Undo brings it back."
        return f"{len(places)} rows were deleted; Undo brings them back." if places else "No row is wrong."

    return sheet.attempt(desk, act)


def undo(desk: Desk, page: float, wrong_only: bool) -> list[Any]:
    """The button Undo."""
    return sheet.attempt(
        desk, lambda: "The last change was taken back." if desk.drafts.undo() else "Nothing to undo.", page, wrong_only
    )


def choose(desk: Desk, held_out: float, strict: bool) -> str:
    """The share that is kept back, and whether wrong rows block the others."""
    desk.drafts.choose(held_out=round(float(held_out) / 100, 2), strict=bool(strict))
    return sheet.summary(desk)


def poll(desk: Desk, cursor: Cursor) -> list[Any]:
    """The summary, and a number that is another one when other rows are marked as too long for the model.

    The table is no output here, or a cell would be drawn over while somebody writes in it. It is drawn anew for such a
    mark alone, which comes by itself only once a model is loaded.
    """
    misfits.count(desk, patience=0)
    if cursor.get("examples.version") == desk.drafts.version:
        return [gr.skip()] * 2
    cursor["examples.version"] = desk.drafts.version
    return [sheet.summary(desk), desk.drafts.marks]


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


class _Sources(NamedTuple):
    """Where examples come from."""

    sample: gr.Dropdown
    about: gr.HTML
    use: gr.Button
    pasted: gr.Textbox
    use_pasted: gr.Button
    upload: gr.File
    more: gr.Checkbox


class _Guess(NamedTuple):
    """Which column of what was read is what."""

    box: gr.Group
    notes: gr.HTML
    lists: list[gr.Dropdown]

    @property
    def shown(self) -> list[Any]:
        """What `columns` shows."""
        return [self.box, self.notes, *self.lists]


class _Rows(NamedTuple):
    """The table, what stands around it, and what is done with all of its rows."""

    said: gr.HTML
    counts: gr.HTML
    table: gr.Dataframe
    page: gr.Slider
    wrong_only: gr.Checkbox
    strict: gr.Checkbox
    held_out: gr.Slider
    undo: gr.Button
    sweep: gr.Button
    download: gr.Button

    @property
    def shown(self) -> list[Any]:
        """What `sheet.view` shows."""
        page = [self.table, self.counts, self.page, self.undo, self.download]
        return [*page, self.wrong_only, self.strict, self.sweep]

    @property
    def place(self) -> list[Any]:
        """Which rows are shown."""
        return [self.page, self.wrong_only]


def build(desk: Desk, shared: Shared) -> None:
    """Declare the page's components and wire their handlers; called inside its tab."""
    gr.HTML(
        "<p>Show the model what you want: questions, each with an answer somebody gave. Some are kept back, to test "
        "what it learned.</p>",
        padding=False,
        js_on_load=_MEND,
    )
    sources, guess, held = _sources(), _guess(), _rows(desk)
    number = one_example.build(desk, shared, held.table, held.place, held.shown)
    _wire_sources(desk, sources, guess, held, number)
    _wire_rows(desk, held)

    fixing.build(desk, shared, number, held.shown)
    onward = gr.Button("Next: Check", size="sm", elem_classes="onward")
    onward.click(lambda: gr.Tabs(selected="check"), None, shared.tabs, **QUIET)
    code.button(partial(code.examples, desk))

    shared.remember(sources.pasted, "examples.pasted")
    shared.on_load(lambda: [*sheet.view(desk), *columns(desk)], [*held.shown, *guess.shown])
    shared.on_load(
        lambda: [round(desk.drafts.choices.held_out * 100), desk.drafts.choices.strict], [held.held_out, held.strict]
    )
    marks = gr.State(desk.drafts.marks)
    marks.change(partial(sheet.view, desk), held.place, held.shown, **QUIET)
    shared.on_tick(partial(poll, desk), [held.counts, marks])
    _publish(desk)


def _sources() -> _Sources:
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
    return _Sources(sample, about, use, pasted, use_pasted, upload, more)


def _guess() -> _Guess:
    with gr.Group(visible=False) as box:
        notes = gr.HTML(padding=True)
        with gr.Row():
            lists = [gr.Dropdown([_GUESS], value=_GUESS, label=label, min_width=150) for label in _COLUMNS.values()]
    return _Guess(box, notes, lists)


def _rows(desk: Desk) -> _Rows:
    said = gr.HTML(elem_id="examples-said", padding=False)
    counts = gr.HTML(sheet.summary(desk), elem_id="examples-summary", padding=False)
    table = sheet.component()
    with gr.Row():
        page = gr.Slider(1, 2, value=1, step=1, label=f"Page ({rows.PAGE} rows each)", visible=False, min_width=180)
        wrong_only = gr.Checkbox(label="Only wrong rows", value=False, min_width=140, visible=False)
        strict = gr.Checkbox(label="Wrong rows block the good ones", value=False, min_width=140, visible=False)
        held_out = gr.Slider(5, 50, value=30, step=5, label="Kept back for the test, in percent", min_width=180)
    with gr.Row():
        back = gr.Button("Undo", size="md", min_width=100)
        sweep = gr.Button("Delete all wrong rows", size="md", min_width=100, visible=False)
        download = downloading.button(partial(as_file, desk), size="md", min_width=100)
    return _Rows(said, counts, table, page, wrong_only, strict, held_out, back, sweep, download)


def _wire_sources(desk: Desk, sources: _Sources, guess: _Guess, held: _Rows, number: gr.Number) -> None:
    outputs = [held.said, *held.shown, *guess.shown]
    sample, more = sources.sample, sources.more
    sources.use.click(partial(use_sample, desk), sample, outputs, **QUIET)
    sample.change(lambda name: note(samples.find(name).about, "plain"), sample, sources.about, **QUIET)
    sources.use_pasted.click(partial(use_text, desk), [sources.pasted, more], outputs, **QUIET)
    sources.upload.upload(partial(use_file, desk), [sources.upload, more], outputs, **QUIET)
    for choice in guess.lists:
        choice.input(partial(read_again, desk), guess.lists, outputs, **QUIET)
    for reading in (sources.use.click, sources.use_pasted.click, sources.upload.upload):
        # The form spoke of a row of the set before.
        reading(lambda: 0, None, number, **QUIET)


def _wire_rows(desk: Desk, held: _Rows) -> None:
    outputs = [held.said, *held.shown]
    held.table.input(
        partial(sheet.edit_table, desk), [held.table, *held.place], outputs, trigger_mode="always_last", **QUIET
    )
    for changed in (held.page.release, held.wrong_only.input):
        changed(partial(sheet.view, desk), held.place, held.shown, **QUIET)
    held.sweep.click(partial(delete_wrong, desk), None, outputs, **QUIET)
    held.undo.click(partial(undo, desk), held.place, outputs, **QUIET)
    split = [held.held_out, held.strict]
    held.held_out.release(partial(choose, desk), split, held.counts, **QUIET)
    held.strict.input(partial(choose, desk), split, held.counts, **QUIET)


def _publish(desk: Desk) -> None:
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
