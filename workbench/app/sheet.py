"""The table of examples as a browser holds it: which state of the rows it was drawn from, and what was changed in it.

Gradio sends the whole table back at each change, also one that was drawn a while ago, and in between another tab may
have changed the rows. So each drawing of the table carries its mark along, in characters that nobody sees in the head
of its first column; and what a drawing was made of is remembered.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from workbench.app import intake, misfits, rows
from workbench.app.desk import Desk
from workbench.app.drafts import Draft
from workbench.app.history import Row
from workbench.app.notes import note, wrong
from workbench.demonstrations.lenient import problem_of, row_from
from workbench.demonstrations.splitting import contradiction, repetition
from workbench.demonstrations.table import wrong_rows
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import pandas as pd

VIEW = 8
"""How many values `view` gives."""

_REMEMBERED = 100
"""Drawings that are remembered; an older one is known while the rows are as they were then."""

_UNSEEN = "\u200b\u200c\u200d\u2060"  # two bits each
_EDITION = 8  # hexadecimal digits of a mark that say of which edition it is


class Drawings:
    """What the latest drawings of the table were made of. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, tuple[Row, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, draft: Draft) -> str:
        """A mark for a table that is drawn from the rows as they are."""
        with self._lock:
            edition, held = draft.edition, draft.rows
            mark = edition[:_EDITION] + secrets.token_hex(3)
            self._rows[mark] = held
            while len(self._rows) > _REMEMBERED:
                self._rows.popitem(last=False)
            return mark

    def rows(self, mark: str, draft: Draft) -> tuple[Row, ...] | None:
        """What the table with this mark shows; None if that is not known any more."""
        with self._lock:
            if mark in self._rows:
                self._rows.move_to_end(mark)
                return self._rows[mark]
        # Also after the server was started again.
        return draft.rows if mark and mark[:_EDITION] == draft.edition[:_EDITION] else None

    def show(self, mark: str, held: tuple[Row, ...]) -> None:
        """The table with this mark shows these rows now, without having been drawn anew."""
        with self._lock:
            self._rows[mark] = held


class Sent(NamedTuple):
    """A table as it came back.

    Attributes:
        mark: of which drawing it is; empty if of none.
        fits: whether it has the table's columns.
    """

    mark: str
    fits: bool
    lines: list[list[Any]]


def drawn(draft: Draft, drawings: Drawings, page: int, wrong_only: bool) -> dict[str, Any]:
    """A page of the rows, as Gradio's table takes it."""
    mark = drawings.begin(draft)
    first, *others = rows.HEADERS
    return {"headers": [first + _hidden(mark), *others], "data": rows.lines(draft, page, wrong_only)}


def sent(frame: pd.DataFrame) -> Sent:
    """What Gradio gives a handler for the table."""
    first, *others = map(str, frame.columns) if len(frame.columns) else ("",)
    shown = first.rstrip(_UNSEEN)
    return Sent(_seen(first[len(shown) :]), (shown, *others) == rows.HEADERS, frame.astype(object).to_numpy().tolist())


def component() -> gr.Dataframe:
    """Declare the table."""
    return gr.Dataframe(
        headers=list(rows.HEADERS),
        datatype=["number", "str", "str", "str", "str", "str"],
        type="pandas",
        interactive=True,
        wrap=True,
        static_columns=[0, 1],
        column_widths=["64px", "15%", "27%", "29%", "11%", "11%"],
        max_height=360,
        max_chars=160,
        label="Your examples: click a cell to change it",
        buttons=[],
        elem_id="examples-table",
    )


def summary(desk: Desk) -> str:
    """How many rows teach, are kept back, are wrong."""
    drafts = desk.drafts
    if not drafts.rows:
        return note("There are no examples yet. Use a sample set, paste some rows, or upload a file.", "info")
    wrongs, good = len(drafts.problems), len(drafts.good)
    said = (
        f"{wrong_rows(wrongs, len(drafts.rows))} and left out; see below why.\n"
        if wrongs and not drafts.choices.strict
        else ""
    )
    try:
        parts = drafts.split()
    except WorkbenchError as error:
        return note(said + str(error), "wrong")
    scored = sum(row.answer is not None for row in parts.held_out)
    test = "" if scored == len(parts.held_out) else f", {scored} of which have a right answer to look for"
    if not scored:
        test = ", without a right answer to look for, so skill cannot be measured"
    counted = (
        f"{said}{good} examples in {drafts.name}: {len(parts.teaching)} will teach, {len(parts.held_out)} "
        f"{'is' if len(parts.held_out) == 1 else 'are'} kept back for the test{test}."
    )
    if not scored and intake.latest(desk).there:
        counted += " If a column holds what to look for, choose it under Column of the right answer."
    told = [counted, keep_sentence(drafts) if drafts.keep else "", repetition(drafts.good)]
    return note(" ".join(filter(None, told)), "info")


def keep_sentence(drafts: Draft) -> str:
    """How many questions are to keep their answers, and which of them are taught others."""
    count = len(drafts.keep)
    said = "1 question is to keep its answer." if count == 1 else f"{count} questions are to keep their answers."
    kept = [row_from(dict(row)) for row in drafts.keep if not problem_of(dict(row))]
    return f"{said} {contradiction([*drafts.good, *kept])}".strip()


def view(desk: Desk, page: float = 1, wrong_only: bool = False) -> list[Any]:
    """What the table and what stands around it show."""
    table = drawn(desk.drafts, _drawings(desk), _page(desk, page, wrong_only), wrong_only)
    return [table, *around(desk, page, wrong_only)]


def around(desk: Desk, page: float, wrong_only: bool) -> list[Any]:
    """What stands around the table."""
    drafts = desk.drafts
    last = _pages(desk, wrong_only)
    page = _page(desk, page, wrong_only)
    undo = f"Undo ({drafts.changes})" if drafts.changes else "Undo"
    return [
        summary(desk),
        gr.update(maximum=max(2, last), value=page, visible=last > 1),
        gr.update(value=undo, interactive=bool(drafts.changes)),
        gr.update(interactive=bool(drafts.rows or drafts.keep)),
        gr.update(value=wrong_only, visible=bool(drafts.problems) or wrong_only),
        *(gr.update(visible=bool(drafts.problems) or wrong_only) for _ in range(2)),
    ]


def _pages(desk: Desk, wrong_only: bool) -> int:
    return rows.pages(len(desk.drafts.problems) if wrong_only else len(desk.drafts.rows))


def _page(desk: Desk, page: float, wrong_only: bool) -> int:
    """The page that is shown for the one that was chosen."""
    return min(max(1, int(page or 1)), _pages(desk, wrong_only))


def attempt(desk: Desk, act: Callable[[], str], page: float = 1, wrong_only: bool = False) -> list[Any]:
    """Do something to the examples, and say what was done or why it was not; then `view`."""
    try:
        said = note(act())
    except WorkbenchError as error:
        said = wrong(error)
    misfits.count(desk)
    return [said, *view(desk, page, wrong_only)]


def edit_table(desk: Desk, frame: Any, page: float, wrong_only: bool) -> list[Any]:
    """Cells were changed in the table, which is a data frame. It is drawn anew only where more than they changed."""
    table = sent(frame)
    if not table.fits:
        # A file that is dropped on the table, or a column that was added to it.
        said = "These are not the table's columns, so nothing was changed. Use Upload examples for a file."
        return [note(said, "wrong"), *view(desk, page, wrong_only)]
    drawings = _drawings(desk)
    base = drawings.rows(table.mark, desk.drafts)
    if base is None:
        said = "The examples were changed elsewhere meanwhile, so this change was not taken. Here they are as they are."
        return [note(said, "wrong"), *view(desk, page, wrong_only)]
    taken = rows.take(desk.drafts, table.lines, base)
    misfits.count(desk)
    said = _said_of(taken)
    as_shown = rows.lines(desk.drafts, _page(desk, page, wrong_only), wrong_only)
    if rows.same(table.lines, as_shown):
        drawings.show(table.mark, desk.drafts.rows)
        return [note(said), gr.skip(), *around(desk, page, wrong_only)] if said else [gr.skip()] * (1 + VIEW)
    return [note(said, "wrong" if taken.clashes else "done") if said else gr.skip(), *view(desk, page, wrong_only)]


def _said_of(taken: rows.Taken) -> str:
    """What became of a table that was edited; nothing if it was as it is."""
    parts = []
    if taken.edited:
        parts.append(f"{taken.edited} row{'s' if taken.edited != 1 else ''} changed.")
    if taken.new:
        parts.append(f"{taken.new} added.")
    for number, entered in taken.clashes.items():
        parts.append(
            f"Row {number} was changed elsewhere meanwhile and is shown as it is now. This was not taken: {entered}"
        )
    return "\n".join(parts)


def _drawings(desk: Desk) -> Drawings:
    made: Drawings = desk.tasks.setdefault("examples.drawings", Drawings())
    return made


def _hidden(mark: str) -> str:
    return "".join(_UNSEEN[int(digit, 16) // 4] + _UNSEEN[int(digit, 16) % 4] for digit in mark)


def _seen(hidden: str) -> str:
    bits = [_UNSEEN.index(char) for char in hidden]
    return "".join(f"{high * 4 + low:x}" for high, low in zip(bits[::2], bits[1::2], strict=False))
