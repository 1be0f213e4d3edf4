"""The part of Compare that asks many questions: the test questions of a run, and what retention is measured on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.app import downloading, receipts
from workbench.app.asking import line, problem
from workbench.app.desk import QUIET, Cursor, Desk, Shared
from workbench.app.questions import find_run
from workbench.app.sittings import Filter, Sittings, What, by_skill, chosen, cut, headers, summary, table
from workbench.errors import WorkbenchError
from workbench.views.text import escape

SAME: Any = gr.skip()
KINDS: list[tuple[str, str]] = [("Test questions", "held-out"), ("What it knew before", "probes")]
FILTERS: list[tuple[str, str]] = [("All", "all"), ("Changed", "changed"), ("Wrong now", "wrong")]
WIDTHS: dict[str, list[str | int]] = {
    "held-out": ["86px", "20%", "12%", "18%", "18%", "18%"],
    "probes": ["86px", "29%", "15%", "21%", "21%"],
}
"""On a wide window; on a phone each row is a card (`theme.py`)."""
EMPTY: dict[str, str] = {
    "held-out": "Press Ask them all: base, teacher and student answer the questions that were kept back from teaching, "
    "and you see which they get right.",
    "probes": "Press Ask them all: base and student answer questions about other things, and you see by name what was "
    "forgotten.",
}


def build(desk: Desk, shared: Shared, run: gr.Dropdown, step: gr.Dropdown, question: gr.Textbox) -> None:
    """Declare the lists; called inside the page.

    Args:
        run, step: whose student is asked.
        question: takes the question of a row that is clicked.
    """
    lists: Sittings = desk.tasks.setdefault("compare.lists", Sittings(desk.runs))
    gr.HTML('<h2 class="compare-heading">Many questions</h2>', padding=False)
    with gr.Row(equal_height=True):
        what = gr.Radio(KINDS, value="held-out", label="Which questions", min_width=300, scale=3)
        which = gr.Radio(FILTERS, value="all", label="Show", min_width=280, scale=3)
        press = gr.Button("Ask them all", min_width=140, scale=1)
        halt = gr.Button("Stop", variant="stop", interactive=False, min_width=80, scale=0, elem_id="compare-stop-list")
    said = gr.HTML(line(EMPTY["held-out"]), padding=False, elem_id="compare-list")
    lines = gr.Dataframe(
        headers=headers("held-out"),
        datatype="str",
        label="Answers, the changed ones first; click a question to ask it again",
        interactive=False,
        wrap=True,
        column_widths=WIDTHS["held-out"],
        visible=False,
        max_height=420,
        elem_id="compare-table",
        elem_classes="held-out",
    )
    download = downloading.button(
        partial(as_file, lists),
        [run, step, what],
        visible=False,
        size="sm",
        elem_id="compare-download",
        elem_classes="onward",
    )
    fields, outputs = [shared.cursor, run, step, what, which], [said, lines, download]
    press.click(partial(start, desk, lists), fields, outputs, **QUIET)
    halt.click(lambda: lists.stop(desk.worker), None, None, **QUIET)
    for changed in (run.change, step.change, what.change, which.change):
        changed(partial(choose, lists), fields, outputs, **QUIET)

    def picked(run: str, step: int, what: What, event: gr.SelectData) -> Any:
        return pick(lists, run, step, what, event.row_value)

    lines.select(picked, [run, step, what], question, **QUIET)
    shared.on_tick(partial(poll, lists), outputs, tab="compare")
    # Each time, as on the page Check: a page that is still drawing the tab loses what comes meanwhile.
    shared.on_tick(lambda _: [gr.update(interactive=bool(lists.going))], [halt], tab="compare")


def poll(lists: Sittings, cursor: Cursor) -> list[Any]:
    """The list that this session has in view, drawn again whenever it has changed."""
    view, version = cursor.get("chosen.compare.list"), lists.version
    if view is None or cursor.get("compare.lists") == version:
        return [SAME] * 3
    return draw(lists, cursor, *view)


def start(desk: Desk, lists: Sittings, cursor: Cursor, run: str, step: int, what: What, which: Filter) -> list[Any]:
    """Have the worker ask all of them; the list is drawn as it comes."""
    try:
        found = find_run(desk.runs, run)
    except WorkbenchError as error:
        return [problem(error), SAME, SAME]
    if found is None:
        return [line(NO_RUN, wrong=True), gr.update(visible=False), gr.update(visible=False)]
    lists.start(desk.worker, found.name, step or None, what)
    receipts.clicked(cursor)
    return draw(lists, cursor, run, step, what, which)


def choose(lists: Sittings, cursor: Cursor, *chosen: Any) -> list[Any]:
    """Another list was chosen."""
    receipts.clicked(cursor)
    return draw(lists, cursor, *chosen)


NO_RUN = "Choose a run under Student of run first, or teach one: these are the questions of a run."


def draw(lists: Sittings, cursor: Cursor, run: str, step: int, what: What, which: Filter) -> list[Any]:
    """What is known of the list: a sentence, the table, whether there is a file. It is what the session has in view."""
    # In place, as the polls do: a copy would lose what one under way writes.
    cursor["chosen.compare.list"], cursor["compare.lists"] = (run, step, what, which), lists.version
    hidden = gr.update(visible=False)
    sitting = lists.get(run, step or None, what) if run else None
    if sitting is None:
        return [line(EMPTY[what] if run else NO_RUN), hidden, hidden]
    if sitting.problem:
        return [problem(sitting.problem), hidden, hidden]
    rows = sitting.rows
    if rows is None:
        done = sitting.progress
        return [line(f"Asking: {done[0]} of {done[1]} answered." if done else "Asking them all."), hidden, hidden]
    seen = chosen(rows, which)
    said = problem(sitting.refused) if sitting.refused is not None else ""
    said += line(summary(rows, what))
    said += skills(by_skill(rows)) if what == "probes" else ""
    if rows and not seen:
        said += line("None of them is so.")
    value = {"headers": headers(what), "data": table(seen, what)}
    return [
        said,
        gr.update(value=value, visible=bool(seen), column_widths=WIDTHS[what], elem_classes=what),
        gr.update(visible=bool(rows)),
    ]


def as_file(lists: Sittings, run: str, step: int, what: What) -> Path | None:
    """The whole list, for the button Download."""
    sitting = lists.get(run, step or None, what) if run else None
    return None if sitting is None else lists.download(sitting)


def skills(rows: list[list[str]]) -> str:
    """What was forgotten, by name; those of which nothing was forgotten in one line."""
    lost = [row for row in rows if row[3] != "0"]
    whole = [row[0] for row in rows if row[3] == "0"]
    made = ""
    if lost:
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in lost)
        head = "".join(f'<th scope="col">{name}</th>' for name in ("Skill", "Known before", "Still known", "Forgotten"))
        made = (
            f"<table><caption>What was forgotten, by name</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )
    if whole:
        made += f"<p>Nothing forgotten of: {escape(', '.join(whole))}.</p>"
    return f'<div class="wb compare-skills">{made}</div>' if made else ""


def pick(lists: Sittings, run: str, step: int, what: What, cells: list[Any]) -> Any:
    """The whole question of the row that was clicked."""
    seen = cells[1] if len(cells or ()) > 1 else ""
    sitting = lists.get(run, step or None, what)
    rows = (sitting.rows if sitting is not None else None) or []
    return next((row["question"] for row in rows if cut(row["question"]) == seen), SAME)
