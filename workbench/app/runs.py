"""The page Runs: every run, and what one can do with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from workbench.app import code, exporting, receipts, shelving, teaching
from workbench.app.desk import LATEST, QUIET, Cursor, Desk, Shared
from workbench.app.guard import UPLOAD
from workbench.app.notes import note
from workbench.app.sittings import cut
from workbench.errors import WorkbenchError
from workbench.runs import shelf

SLOW: dict[str, Any] = {**QUIET, "show_progress": "full", "show_progress_on": None}
_AT_ONCE = 0.3
"""Seconds within which a small zip is ready."""

SMALL: dict[str, Any] = {"size": "md", "elem_classes": "onward"}


def build(desk: Desk, shared: Shared) -> None:
    """Declare the page's components and wire their handlers; called inside its tab."""
    table = gr.HTML(elem_id="runs-table", padding=False)
    with gr.Column(visible=False, elem_id="runs-there") as there:
        run = gr.Dropdown([], label="Run", info="What the buttons below are about.", elem_id="runs-run")
        with gr.Row():
            goto = gr.Button("Open", variant="primary", size="md", min_width=110)
            further = gr.Button("Teach further on it", size="md", min_width=170)
            same = gr.Button("Use its settings", size="md", min_width=190)
            delete = gr.Button("Delete", size="md", min_width=110)
            undo = gr.Button("Undo delete", interactive=False, size="md", min_width=130)
        said = gr.HTML(elem_id="runs-said", padding=False)
        with gr.Accordion("Rename, or note something", open=False), gr.Row(equal_height=False):
            with gr.Column(min_width=260):
                name = gr.Textbox(label="New name", max_length=100)
                rename = gr.Button("Rename", size="sm")
            with gr.Column(min_width=260):
                text = gr.Textbox(label="Note", lines=2, max_length=shelf.NOTE)
                keep = gr.Button("Keep the note", size="sm")
        with gr.Accordion("Compare two runs", open=False):
            with gr.Row(equal_height=False):
                one = gr.Dropdown([], label="One run", min_width=200)
                other = gr.Dropdown([], label="Another run", min_width=200)
            beside = gr.Button("Compare the two", **SMALL)
            drawn = gr.HTML(elem_id="runs-compared", padding=False)
        with gr.Accordion("Export", open=False):
            kind = gr.Radio(list(exporting.KINDS.items()), value="adapter", label="As what")
            export = gr.Button("Make the zip", **SMALL)
            exported = gr.HTML(elem_id="runs-exported", padding=False)
            packed = gr.File(label="Ready to download", visible=False, interactive=False)
    with gr.Accordion("Import", open=False):
        gr.HTML(
            "<p>A zip of a run's folder (as exported above), or of a folder that PEFT saved (adapter_config.json and "
            "adapter_model.safetensors) for the model that is in memory. "
            f"At most {UPLOAD >> 20} MB.</p>",
            padding=False,
        )
        file = gr.File(label="Zip file", file_types=[".zip"], type="filepath", elem_id="runs-file")
        bring = gr.Button("Import", **SMALL)
        imported = gr.HTML(elem_id="runs-imported", padding=False)
    code.button(partial(code.runs, desk))

    parts = [table, run, one, other, undo, there, drawn]
    shared.on_load(lambda: poll(desk, {}), parts)
    shared.on_tick(partial(poll, desk), parts, tab="runs")

    def act(function: Callable[..., str], inputs: list[Any], done: str | Callable[[str], str]) -> dict[str, Any]:
        return {
            "fn": partial(press, desk, function, done),
            "inputs": [shared.cursor, *inputs],
            "outputs": [said, shared.cursor, *parts],
            **QUIET,
        }

    goto.click(**act(_open, [run], "{} is the run of Teach and Compare now.")).success(
        partial(_tab_if_done, "teach"), said, shared.tabs, **QUIET
    )
    further.click(**act(_further, [run], "The next teaching goes on from {}.")).success(
        partial(_tab_if_done, "teach"), said, shared.tabs, **QUIET
    )
    same.click(**act(_same, [run], partial(shelving.settings_said, desk)))
    rename.click(partial(press_rename, desk), [shared.cursor, run, name], [name, said, shared.cursor, *parts], **QUIET)
    keep.click(**act(_note, [run, text], "The note on {} is kept."))
    delete.click(**act(shelving.delete, [run], "{} was deleted. Undo delete brings it back."))
    undo.click(**act(lambda desk: shelving.undelete(desk), [], "{} is back."))
    # However it came to be the chosen one: the note of another run must not be kept on it.
    run.change(partial(note_box, desk), [shared.cursor, run], text, **QUIET)
    # Who begins to write a name or a note means the run that is chosen then.
    for field, listed, events in (
        ("run", run, [run.input, name.focus, text.focus]),
        ("one", one, [one.input]),
        ("other", other, [other.input]),
    ):
        gr.on(events, partial(choose, field), [shared.cursor, listed], shared.cursor, **QUIET)
    two = [shared.cursor, one, other]
    beside.click(partial(press_compare, desk), two, drawn, **SLOW)
    gr.on([one.change, other.change], partial(follow, desk), two, drawn, **LATEST)
    export.click(partial(press_export, desk), [shared.cursor, run, kind], [exported, packed], **QUIET)
    gr.on([run.change, kind.change], partial(turn, desk), exported, exported, **QUIET)
    shared.on_load(lambda: show_export(desk), [exported, packed])
    shared.on_tick(partial(poll_export, desk), [exported, packed], tab="runs")
    bring.click(partial(press_import, desk), [file, shared.cursor], [imported, file, shared.cursor, *parts], **SLOW)
    publish(desk)


_NOTED = "chosen.runs.noted"
"""The run whose note is in view."""

_COMPARED = "chosen.runs.compared"
"""The two runs of the comparison in view."""


def choose(field: str, cursor: Cursor, name: str | None) -> Cursor:
    """A run was chosen in one of the lists: it stays so when the lists are drawn again."""
    cursor[f"chosen.runs.{field}"] = name  # in place: a copy would lose what a poll under way writes
    cursor["runs.mark"] = None  # nor knows such a poll of this, and its answer may come after the choice
    return cursor


def press(
    desk: Desk, function: Callable[..., str], done: str | Callable[[str], str], cursor: Cursor, *values: Any
) -> list[Any]:
    """Do something with a run; says what was done or what is wrong, and shows the list as it is then.

    Args:
        function: does it, and gives the run's name.
        done: what to say of that run, with a place for its name or as a function of it.
    """
    try:
        made = function(desk, *values)
        said = note(done.format(made) if isinstance(done, str) else done(made))
        # The run in view needs no choice, and the next one to come into view takes its place.
        choose("run", cursor, None if made == desk.drafts.run else made)
    except (WorkbenchError, TimeoutError) as error:
        said = note(str(error), "wrong")
    return [said, cursor, *_shown_anew(desk, cursor)]


def press_rename(desk: Desk, cursor: Cursor, run: str | None, name: str) -> list[Any]:
    """As `press`; the field is emptied in the same answer, since the next name may be typed by the time of another."""
    said, *shown = press(desk, shelving.rename, "It is called {} now.", cursor, run, name)
    return [gr.skip() if _failed(said) else "", said, *shown]


def _shown_anew(desk: Desk, cursor: Cursor) -> list[Any]:
    """The list after a press. A poll from before may arrive after it, so the next ones show the list again."""
    receipts.clicked(cursor)
    cursor["runs.mark"] = None
    return poll(desk, cursor)


def _open(desk: Desk, name: str | None) -> str:
    shelving.open_it(desk, name)
    return str(name)


def _further(desk: Desk, name: str | None) -> str:
    shelving.teach_further(desk, name)
    return str(name)


def _same(desk: Desk, name: str | None) -> str:
    shelving.duplicate(desk, name)
    return str(name)


def _note(desk: Desk, name: str | None, text: str) -> str:
    shelving.note(desk, name, text or "")
    return str(name)


def _tab_if_done(tab: str, said: str) -> Any:
    return gr.skip() if _failed(said) else gr.Tabs(selected=tab)


def _failed(said: str | None) -> bool:
    return "note-wrong" in (said or "")


def note_box(desk: Desk, cursor: Cursor, name: str | None) -> Any:
    """The note on the chosen run, under that run's name: whoever writes sees on what, and that its note has come.

    Once for each choice: the browser may tell of one twice, and what is being written would be gone with the second.
    """
    if cursor.get(_NOTED, ()) == name:  # no run is a choice, too
        return gr.skip()
    cursor[_NOTED] = name
    try:
        held = shelf.note_of(desk.run(name)) if name else ""
    except WorkbenchError:
        held = ""
    return gr.update(value=held, label=f"Note on {cut(name, 40)}" if name else "Note")


def press_compare(desk: Desk, cursor: Cursor, one: str | None, other: str | None) -> str:
    """Two runs beside each other."""
    cursor[_COMPARED] = [one, other]
    try:
        return shelving.compare(desk, one, other)
    except WorkbenchError as error:
        return note(str(error), "wrong")


def follow(desk: Desk, cursor: Cursor, one: str | None, other: str | None) -> Any:
    """Other runs are chosen: a comparison that is in view is of these."""
    seen = cursor.get(_COMPARED)
    return gr.skip() if seen is None or seen == [one, other] else press_compare(desk, cursor, one, other)


def _drawn_again(desk: Desk, cursor: Cursor, names: list[str]) -> Any:
    """The comparison in view as its runs are now; empty where one of them has gone."""
    seen = cursor.get(_COMPARED)
    if seen is None:
        return gr.skip()
    if all(name in names for name in seen):
        return press_compare(desk, cursor, *seen)
    cursor[_COMPARED] = None
    return ""


def press_export(desk: Desk, cursor: Cursor, run: str | None, kind: str) -> list[Any]:
    """A zip to be downloaded: returns at once; `poll_export` shows what comes of it."""
    try:
        begun = exporting.start(desk, run, kind)
    except WorkbenchError as error:
        return [note(str(error), "wrong"), gr.skip()]
    receipts.clicked(cursor)  # a poll may say that it is ready before this answer arrives, which says that it is not
    begun.over.wait(_AT_ONCE)
    return show_export(desk)


def show_export(desk: Desk) -> list[Any]:
    """How it stands with the zip that was asked for last, and the zip."""
    last = exporting.latest(desk)
    hidden = gr.update(value=None, visible=False)
    if last is None:
        return ["", hidden]
    if last.problem is not None:
        return [note(str(last.problem), "wrong"), hidden]
    if last.path is None:
        told = "A large model takes minutes, and you may leave this page meanwhile."
        return [note(f"The zip of {last.run} is being made. {told}", "info"), hidden]
    said = f"{last.path.name} is ready below."
    if last.kind == "run" and (size := last.path.stat().st_size) > UPLOAD:
        said += (
            f"\nIt has {size / 2**20:.1f} MB, and Import takes at most {UPLOAD >> 20}: to bring it into another "
            "workbench, unzip it in its folder of runs."
        )
    return [note(said), gr.update(value=str(last.path), visible=True)]


def poll_export(desk: Desk, cursor: Cursor) -> list[Any]:
    """The same, whenever it has changed."""
    last = exporting.latest(desk)
    now = None if last is None else (id(last), last.over.is_set())
    if cursor.get("runs.export") == now:
        return [gr.skip()] * 2
    cursor["runs.export"] = now
    return show_export(desk)


def turn(desk: Desk, said: str) -> Any:
    """Something else is chosen: why the zip before could not be made is said no longer."""
    if not _failed(said):
        return gr.skip()
    exporting.forget(desk)
    return ""


def press_import(desk: Desk, file: str | None, cursor: Cursor) -> list[Any]:
    """A run from a zip."""
    try:
        made = shelving.bring_in(desk, file)
        desk.drafts.choose(run=made)
        choose("run", cursor, None)
        said, left = note(f"{made} was imported; it is the run of Teach and Compare now."), None
    except (WorkbenchError, TimeoutError) as error:
        said, left = note(str(error), "wrong"), gr.skip()
    return [said, left, cursor, *_shown_anew(desk, cursor)]


def poll(desk: Desk, cursor: Cursor) -> list[Any]:
    """The list, if it has changed: table, the three lists to choose from, undo, all that needs a run, comparison."""
    now = (*shelving.mark(desk), desk.drafts.run)
    if cursor.get("runs.mark") == now:
        return [gr.skip()] * 7
    cursor["runs.mark"] = now
    names = teaching.run_names(desk)
    run, one, other = (_still(cursor, field, names) for field in ("run", "one", "other"))
    here = desk.drafts.run if desk.drafts.run in names else (names[0] if names else None)
    one = one or here
    away = shelf.put_away_runs(desk.runs)
    return [
        shelving.table_html(desk, run or here),
        gr.update(choices=names, value=run or here),
        gr.update(choices=names, value=one),
        gr.update(choices=names, value=other or next((name for name in names if name != one), None)),
        gr.update(value=f"Undo delete of {cut(away[0][1], 32)}" if away else "Undo delete", interactive=bool(away)),
        gr.update(visible=bool(names or away)),
        _drawn_again(desk, cursor, names),
    ]


def _still(cursor: Cursor, field: str, names: list[str]) -> str | None:
    """What was chosen in a list, if it is still there."""
    name: str | None = cursor.get(f"chosen.runs.{field}")
    return name if name in names else None


def publish(desk: Desk) -> None:
    """The endpoint that belongs to this page."""
    from gradio.events import api

    def runs() -> list[dict[str, Any]]:
        """Every run, the newest first.

        Returns:
            For each run: run (its id), state (being taught, finished, stopped, damaged), method, model, data, on, step,
            steps, skill and retention (shares of 1, null where not measured), started and note.
        """
        return shelving.records(desk)

    api(runs, api_name="runs", queue=False)
