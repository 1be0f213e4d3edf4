"""The page Check: before any teaching, can the model do it when it is shown how, and not otherwise?

The server owns a check that is under way, not the page that started it: a page that is loaded again, or a second one,
shows the same.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import api

from workbench.app import code, misfits, receipts, status, teaching
from workbench.app.desk import QUIET, Cursor, Desk, Shared
from workbench.app.notes import note, wrong
from workbench.app.rows import cut
from workbench.errors import InputError, WorkbenchError
from workbench.events import Measure
from workbench.views.meters import meter
from workbench.views.text import escape, shown
from workbench.views.words import duration
from workbench.worker import Call, WasStopped
from workbench.worker.protocol import teaching_seconds

SCORERS = {
    "contains": "The answer holds the right answer somewhere",
    "exact": "The answer is the right answer",
    "choice": "The letter of a multiple choice is right",
    "number": "The last number of the answer is right",
    "json": "The answer is the same JSON value",
    "answer-tag": "What stands between <answer> tags is the right answer",
    "tool-calls": "The same tool calls with the same inputs",
    "says": "One of the right answers stands in it, word for word",
    "half-says": "At least half of the words of a right answer stand in it",
}
HEADERS = ["question", "right answer", "model alone", "model shown the example"]
WHAT_TO_DO = {
    "weak": "The questions that it missed come first below: does each example answer its question clearly? "
    "You may teach all the same.",
    "cannot": "Another model is loaded on the page Model. SFT, which needs no teacher, is a method on the page Teach; "
    "the longest answer stands there under Advanced.",
}
"""Beside the advice, which is the same on the command line: where on these pages to follow it."""
_TABLE_ROWS = 200
_AT_ONCE = 0.3
"""Seconds within which a worker that is busy has said so."""


class Task:
    """One check under way or over. Its result goes into the draft, whatever becomes of the page.

    Attributes:
        call: the worker's replies so far.
        of: the fingerprint of the examples that are asked.
        problem: why there is no result, as an error; None if all is well.
        stopped: whether somebody asked for its end.
    """

    def __init__(self, desk: Desk, call: Call) -> None:
        self.call = call
        self.of = desk.drafts.fingerprint()
        self.problem: WorkbenchError | None = None
        self.stopped = False
        self.over = threading.Event()
        self._desk = desk
        threading.Thread(target=self._wait, name="check", daemon=True).start()

    def _wait(self) -> None:
        try:
            self._desk.drafts.set_check({**self.call.result(), "of": self.of})
        except WorkbenchError as error:
            self.problem = error
        finally:
            self.over.set()

    @property
    def progress(self) -> tuple[int, int] | None:
        """How many of how many questions; None if that is not known yet."""
        last = next((r for r in reversed(self.call.replies) if r.get("reply") == "progress"), None)
        return (int(last["done"]), int(last["of"])) if last is not None and last.get("of") else None


def start(desk: Desk, n: float = 50, scorer: str = "contains") -> Task:
    """Begin a check.

    Raises:
        InputError: there is nothing to check, or a check is going on.
    """
    if going(desk) is not None:
        raise InputError("A check is going on already.", "Wait for it, or press Stop.")
    if scorer not in SCORERS:  # before it is chosen for all that follows
        raise InputError(f"There is no scorer {scorer!r}.", f"The scorers are {', '.join(SCORERS)}.")
    if not 1 <= int(n or 0) <= 1000:
        raise InputError(f"{n} questions cannot be asked.", "Choose between 1 and 1000.")
    drafts = desk.drafts
    misfits.count(desk)
    drafts.split()  # what could not be taught is refused here already
    drafts.choose(scorer=scorer)
    call = desk.worker.call(
        "check",
        rows=drafts.numbered,
        settings=drafts.settings,
        n=int(n),
        scorer=scorer,
        seed=int(drafts.settings.get("optim", {}).get("seed", 0)),
        method=drafts.method,
    )
    task = desk.tasks["check"] = Task(desk, call)
    return task


def going(desk: Desk) -> Task | None:
    """The check that is under way."""
    task = desk.tasks.get("check")
    return task if isinstance(task, Task) and not task.over.is_set() else None


def press_stop(desk: Desk, cursor: Cursor) -> str:
    """The button Stop. The verdict of the check before, if there is one, stands."""
    receipts.clicked(cursor)  # it is over at once, and a poll may say so before this answer arrives
    if (task := going(desk)) is not None:
        task.stopped = True
        desk.worker.stop(task.call)  # it alone: it may wait for a model that is being downloaded
    return said(desk)


def press(desk: Desk, cursor: Cursor, n: float, scorer: str) -> list[Any]:
    """The button Check the teacher: returns at once; `poll` shows what comes of it."""
    # What is refused at once may be shown by a poll before this answer arrives, which says that it goes on.
    receipts.clicked(cursor)
    cursor["check.said"] = None  # nor may it be left out because it was shown for the press before this one
    try:
        start(desk, n, scorer).over.wait(_AT_ONCE)
    except WorkbenchError as error:
        return [wrong(error)]
    return [said(desk)]


def said(desk: Desk) -> str:
    """What is going on, or why the last check came to nothing."""
    task = desk.tasks.get("check")
    if not isinstance(task, Task):
        return ""
    if not task.over.is_set():
        if task.stopped:
            return note("Stopping ...", "info")
        progress = task.progress
        if progress is None:
            return note("Asking the model: first without, then with the example ...", "info")
        done, of = progress
        share = min(100, round(100 * done / of))
        bar = f'<progress max="{of}" value="{done}" aria-label="Check">{share}%</progress>'
        return f'<div class="note note-info" role="note"><p>Asked {done} of {of} questions. {bar}</p></div>'
    if isinstance(task.problem, WasStopped):
        return note("Stopped. What this check had found is not kept; press Check the teacher to begin again.", "info")
    if task.problem is None or (isinstance(task.problem, InputError) and task.of != desk.drafts.fingerprint()):
        return ""  # what is wrong with other examples is no news of these
    return wrong(task.problem)


def verdict_html(desk: Desk) -> str:
    """The verdict in a sentence, and what to do."""
    found = desk.drafts.check
    if found is None:
        begin = "Press the button: it takes a few seconds." if desk.drafts.good else "First choose examples."
        return note(f"Not checked yet. {begin}", "info")
    word = str(found.get("verdict"))
    title = {"ready": "Good to teach.", "weak": "It can be taught, but look first.", "cannot": "Not like this."}
    since = status.changed_since(desk)
    if since:
        of = f" of {shown(str(found['model']), 200)}" if found.get("model") else ""
        return (
            f'<div class="verdict verdict-old"><h2>Check again.</h2><p>{escape(since.capitalize())} since the last '
            f"check{of}, which said: {shown(str(found.get('advice', '')), 2000)}</p></div>"
        )
    base = _measure(found.get("base"))
    # What the model can do already is no matter of its examples.
    help_ = "" if base is None or base.good or word not in WHAT_TO_DO else f"<p>{escape(WHAT_TO_DO[word])}</p>"
    heading = title.get(word, "Checked.")
    if base is None and found.get("rows"):
        help_ = "<p>Read some answers below: are those with the example what you want it to say without?</p>"
    advice = str(found.get("advice", "")).removesuffix(heading).rstrip()  # said once
    return (
        f'<div class="verdict verdict-{escape(word)}"><h2>{escape(heading)}</h2>'
        f"<p>{shown(advice, 2000)}</p>{help_}</div>"
    )


def meters_html(desk: Desk) -> str:
    """The two shares with their intervals, and what teaching would cost."""
    found = desk.drafts.check
    if found is None:
        return ""
    base, teacher = _measure(found.get("base")), _measure(found.get("teacher"))
    took = found.get("seconds")
    cost = cost_sentence(desk, found)
    also = f" The check took {duration(float(took))}." if took else ""
    return (
        '<div class="check-meters">'
        + meter("The model alone", base, "check-base", scored=base is not None)
        + meter("Shown the example (teacher)", teacher, "check-teacher", scored=teacher is not None)
        + f"</div>{note((cost + also).strip(), 'plain')}"
    )


def cost_sentence(desk: Desk, found: dict[str, Any]) -> str:
    """How long teaching takes with what is chosen now: by the steps of a run like it, else by those the check took."""
    costs, method = found.get("costs"), desk.drafts.method
    if not costs:
        problem = str(found.get("cost_problem") or "")
        return f"How long teaching takes is not known: {problem}" if problem else ""
    try:
        optim, taught = teaching.chosen(desk).optim, teaching.step_seconds(desk)
    except WorkbenchError:
        return ""  # the page Teach says which setting is wrong
    if taught is not None:
        costs = {**costs, "step": taught[1], "batch": optim.batch}
    elif costs["method"] != method:
        return f"The check timed {str(costs['method']).upper()}; check again for how long {method.upper()} takes."
    seconds = teaching_seconds(costs, optim.steps, optim.batch, desk.drafts.choices.evaluate_every)
    return (
        f"Teaching for {optim.steps} steps takes {duration(seconds)} on this machine, at {costs['step']:.2g} s a step"
        f"{'' if taught is None else f' as in run {taught[0]}'} and with the measurements in between."
    )


def table(desk: Desk) -> dict[str, Any]:
    """Side by side: the missed ones of the teacher first, as they are what to look at."""
    found = desk.drafts.check or {}
    asked = sorted(found.get("rows", []), key=lambda row: bool(row.get("teacher_right")))
    lines = [
        [
            cut(str(row["question"])),
            cut(str(row["answer"] or "")),
            _said(row, "base"),
            _said(row, "teacher"),
        ]
        for row in asked[:_TABLE_ROWS]
    ]
    return {"headers": HEADERS, "data": lines}


def side_by_side(desk: Desk) -> Any:
    """The table, once there is something in it."""
    lines = table(desk)
    return gr.update(value=lines, visible=bool(lines["data"]))


def everything(desk: Desk) -> list[Any]:
    """All that the page shows."""
    return [said(desk), verdict_html(desk), meters_html(desk), side_by_side(desk)]


def poll(desk: Desk, cursor: Cursor) -> list[Any]:
    """What has changed of it."""
    made = [said(desk), verdict_html(desk), meters_html(desk)]
    updates: list[Any] = []
    for key, value in zip(("said", "verdict", "meters"), made, strict=True):
        updates.append(gr.skip() if cursor.get(f"check.{key}") == value else value)
        cursor[f"check.{key}"] = value
    seen = cursor.get("check.result")
    cursor["check.result"] = id(desk.drafts.check)
    return [*updates, gr.skip() if seen == id(desk.drafts.check) else side_by_side(desk)]


def can_stop(desk: Desk) -> Any:
    """Whether there is a check to stop."""
    return gr.update(interactive=going(desk) is not None)


def _measure(values: Any) -> Measure | None:
    return Measure(**values) if isinstance(values, dict) else None


def _known(scorer: str) -> str:
    """The scorer that was chosen; the usual one where there is none of that name, with which no list could be shown."""
    return scorer if scorer in SCORERS else "contains"


def _said(row: dict[str, Any], role: str) -> str:
    """An answer, marked where a right one is known."""
    right, text = row[f"{role}_right"], cut(str(row[role]))
    if right is None:
        return text
    return f"\N{CHECK MARK} right: {text}" if right else f"\N{MULTIPLICATION X} wrong: {text}"


def run_check(desk: Desk, n: int, scorer: str) -> dict[str, Any]:
    """A check from beginning to end, for programs: the caller waits, the server's other work does not."""
    try:
        task = start(desk, n, scorer)
        task.over.wait()
        if task.problem is not None:
            raise task.problem
    except WorkbenchError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return {k: v for k, v in (desk.drafts.check or {}).items() if k != "of"}


def build(desk: Desk, shared: Shared) -> None:
    """Declare the page's components and wire their handlers; called inside its tab."""
    gr.HTML(
        "<p>The teacher is the model itself, shown the example. It can only teach what it can do when it is shown how. "
        "So ask some of the questions twice before any teaching: without the example, and with it.</p>",
        padding=False,
    )
    with gr.Row(equal_height=False):
        n = gr.Slider(10, 200, value=50, step=10, label="How many questions at most", min_width=200)
        scorer = gr.Dropdown(
            [(text, name) for name, text in SCORERS.items()],
            value="contains",
            label="What counts as right",
            min_width=200,
        )
    with gr.Row():
        begin = gr.Button("Check the teacher", variant="primary", min_width=200, scale=4)
        halt = gr.Button("Stop", variant="stop", interactive=False, min_width=80)
    progress = gr.HTML(said(desk), elem_id="check-said", padding=False)
    verdict = gr.HTML(verdict_html(desk), elem_id="verdict", padding=False)
    meters = gr.HTML(meters_html(desk), padding=False)
    answers = gr.Dataframe(
        headers=HEADERS,
        datatype="str",
        interactive=False,
        wrap=True,
        column_widths=["26%", "18%", "28%", "28%"],
        max_height=420,
        max_chars=200,
        label="Side by side; what the teacher missed comes first",
        buttons=[],
        visible=False,
        elem_id="check-table",
    )
    onward = gr.Button("Next: Teach", size="sm", elem_classes="onward")
    code.button(lambda many: code.check(desk, int(many)), [n])

    begin.click(partial(press, desk), [shared.cursor, n, scorer], progress, **QUIET)
    halt.click(partial(press_stop, desk), shared.cursor, progress, **QUIET)
    onward.click(lambda: gr.Tabs(selected="teach"), None, shared.tabs, **QUIET)
    shared.on_load(
        lambda: [*everything(desk), _known(desk.drafts.choices.scorer)], [progress, verdict, meters, answers, scorer]
    )
    shared.on_load(lambda: [can_stop(desk)], [halt])
    shared.on_tick(partial(poll, desk), [progress, verdict, meters, answers], tab="check")
    # Each time, as on the page Teach: a page that is still drawing the tab loses what comes meanwhile.
    shared.on_tick(lambda _: [can_stop(desk)], [halt], tab="check")

    def check(n: int = 50, scorer: str = "contains") -> dict[str, Any]:
        """Ask the model some of the questions without and with the example; the examples are those that are loaded.

        Parameters:
            n: how many questions at most.
            scorer: what counts as right: `contains`, `exact`, `choice`, `number`, `json`, `answer-tag`, `tool-calls`,
                `says` or `half-says`.
        Returns:
            model, base and teacher (value, n, low, high), verdict, advice, seconds, estimate_seconds (of teaching),
            costs (the seconds that it is made of) or cost_problem, and rows: each with id, question, answer, base,
            teacher, base_right, teacher_right.
        """
        return run_check(desk, n, scorer)

    api(check, api_name="check")
