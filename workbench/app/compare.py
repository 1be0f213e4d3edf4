"""The page Compare: one question to base, teacher and student, side by side."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import api

from workbench.app import answered, asking, code, conversing, entered, held_out
from workbench.app.asking import NOT_ASKED, SAME, Filled, Form, Shown, note_on
from workbench.app.desk import LATEST, QUIET, STREAM, Cursor, Desk, Shared
from workbench.app.questions import POCKET_CAN, POCKET_CANNOT, ROLES, find_run, run_names, saved_steps, shown_by
from workbench.app.sittings import cut
from workbench.errors import InputError, WorkbenchError
from workbench.views.columns import answer_column

NO_RUN = ("No run: base and teacher only", "")
SAMPLES = 4


def build(desk: Desk, shared: Shared) -> None:
    """Declare the page's components and wire their handlers; called inside its tab."""
    with gr.Row(equal_height=True):
        question = gr.Textbox(label="Question", elem_id="question", max_lines=6, scale=5, min_width=240)
        press = gr.Button("Ask all three", variant="primary", scale=1, min_width=140, elem_id="ask-all-three")
        halt = gr.Button("Stop", variant="stop", interactive=False, scale=0, min_width=80, elem_id="compare-stop")
    samples = gr.Dataset(
        components=["textbox"], samples=[], label="Test questions of the run, which were not taught", visible=False
    )
    with gr.Row(equal_height=True):
        demonstration = gr.Textbox(
            label="What the teacher is shown", lines=1, max_lines=8, scale=3, min_width=300, elem_id="shown"
        )
        run = gr.Dropdown([NO_RUN], value="", label="Student of run", min_width=150)
        step = gr.Dropdown([("the newest", 0)], value=0, label="Student at step", min_width=120)
        beside = gr.Dropdown([("nothing", 0)], value=0, label="Beside it, at step", min_width=120)
    note = gr.HTML("", padding=False)
    notice = gr.HTML("", padding=False, elem_id="compare-notice")
    answers: dict[str, gr.HTML] = {}
    prompts: dict[str, gr.Textbox] = {}
    with gr.Row(elem_id="compare-answers"):
        for role in ROLES:
            with gr.Column(min_width=240):
                answers[role], prompts[role] = _column(role)
        with gr.Column(min_width=240, visible=False) as earlier:
            answers["earlier"], prompts["earlier"] = _column("earlier")
    with gr.Row():
        keep = gr.Button("Keep this", size="sm", min_width=120)
        often = gr.Button("Ask it five times", size="sm", min_width=140)
        of_student = gr.Button("Token map: student's answer", size="sm", min_width=190)
        of_teacher = gr.Button("Token map: teacher's answer", size="sm", min_width=190)
    more = gr.HTML("", padding=False, elem_id="compare-more")
    with gr.Accordion("How the answers are drawn", open=False), gr.Row():
        temperature = gr.Slider(0, 2, 0, step=0.1, label="Temperature", info="0: the likeliest word each time.")
        top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", info="Only words that hold this much probability.")
        # No least number here and elsewhere: Gradio refuses one below it without a word, and we say why.
        top_k = gr.Number(0, label="Top-k", info="Only so many likeliest words; 0: all.", precision=0)
        seed = gr.Number(0, label="Seed", info="The same seed, the same answer.", precision=0)
        longest = gr.Number(0, label="Longest answer", info="In tokens; 0: as the run has it.", precision=0)
    title = "What the pocket model can answer, and what it cannot"
    with gr.Accordion(title, open=False, visible=False) as pocket, gr.Row():
        can, cannot = pocket_examples()
    with gr.Accordion("Go on with the conversation", open=False) as going_on:
        said = gr.HTML(conversing.conversation([]), padding=False)
        whose = [(role.capitalize(), role) for role in ("student", "teacher", "base")]
        who = gr.Radio(whose, value="student", label="Go on from the answer of")
        with gr.Row():
            carry_on = gr.Button("Carry on", size="md", min_width=120)
            start_over = gr.Button("Start over", size="md", min_width=120)
    held_out.build(desk, shared, run, step, question)
    filled, asked, turns = gr.State(("", "")), gr.State(None), gr.State([])
    code.button(partial(show_code, desk), [run, question, demonstration, step, temperature, seed, turns])
    fields = [
        shared.cursor,
        question,
        demonstration,
        filled,
        run,
        step,
        beside,
        temperature,
        top_p,
        top_k,
        seed,
        longest,
        turns,
    ]
    columns = (*ROLES, "earlier")
    outputs = [notice, *(answers[c] for c in columns), *(prompts[c] for c in columns)]
    outputs += [earlier, demonstration, filled, note, asked, question]
    # What is looked at closer belongs to the answers before. First, and by the page itself: what comes second waits for
    # the last answer, and would take away what was looked at meanwhile.
    gr.on([press.click, question.submit, start_over.click], None, None, more, js="() => ''", **QUIET)
    gr.on([press.click, question.submit], with_form(asking.ask, desk), fields, outputs, **STREAM)
    often.click(with_form(asking.ask_often, desk), fields, [notice, more], **STREAM)
    of_student.click(partial(asking.look, desk, "student"), asked, [notice, more], **QUIET)
    of_teacher.click(partial(asking.look, desk, "teacher"), asked, [notice, more], **QUIET)
    halt.click(lambda cursor: asking.under_way(desk).stop(desk.worker, cursor.get(_BY)), shared.cursor, None, **QUIET)
    shared.on_tick(partial(can_stop, desk), [halt], tab="compare")
    keep.click(partial(asking.keep_question, desk), question, notice, **QUIET)
    carry_on.click(partial(conversing.carry, desk), [asked, who, turns], [turns, said, question, notice], **QUIET)
    start_over.click(partial(conversing.start_over, desk), None, [turns, said, notice], **QUIET)
    for dataset in (samples, can, cannot):
        dataset.click(partial(take, desk), [dataset, run], [question, demonstration, filled, note], **QUIET)
    of_run = [step, beside, samples]
    run.input(partial(choose, desk), [shared.cursor, run], of_run, **QUIET)
    gr.on([step.input, beside.input], choose_steps, [shared.cursor, run, step, beside], None, **QUIET)
    shared.remember(question, "compare.question")
    # What is pasted or dictated is no `input`.
    written = [demonstration.input, demonstration.blur]
    gr.on(written, partial(entered.keep_shown, desk.drafts), [question, demonstration, filled], None, **LATEST)
    how: list[Any] = [temperature, top_p, top_k, seed, longest]
    gr.on([field.input for field in how], partial(entered.keep_drawn, desk.drafts), how, None, **LATEST)
    shared.on_load(partial(last_answers, desk), outputs)
    # After the last answers, which fill in the same field.
    shared.on_load(lambda: entered.shown(desk.drafts, desk.drafts.run or ""), [demonstration, filled, note])
    shared.on_load(lambda: entered.drawn(desk.drafts), how)
    shared.on_tick(partial(poll_answers, desk), outputs, tab="compare")
    shared.on_load(partial(restore, desk), [run, *of_run, pocket])
    shared.on_tick(partial(poll, desk), [run, *of_run, pocket], tab="compare")
    shared.on_load(partial(conversing.restore, desk), [turns, said, going_on])
    shared.on_tick(partial(conversing.poll, desk), [turns, said, going_on], tab="compare")
    shared.parts["question"] = question
    _endpoint(desk)


def with_form(ask: Callable[[Desk, Form], Iterator[Any]], desk: Desk) -> Callable[..., Iterator[Any]]:
    """A handler that takes the session's cursor and the page's fields, for a function that takes one value."""

    def handler(cursor: Cursor, *values: Any) -> Iterator[Any]:
        # In place, as the polls write: from now on these are the page's own answers.
        form = replace(Form(*values), by=cursor.setdefault(_BY, secrets.token_hex(8)))
        if not form.run:
            # Whoever comes from Teach is quicker than the poll that fills in the list of runs.
            form = replace(form, run=_in_view(desk, run_names(desk.runs), cursor))
        # A generator function itself: Gradio streams nothing else.
        yield from ask(desk, form)

    return handler


def can_stop(desk: Desk, cursor: Cursor) -> list[Any]:
    """Whether there is an answer to stop."""
    # Each time: a page that is still drawing the tab loses what comes meanwhile.
    return [gr.update(interactive=bool(asking.under_way(desk).of(cursor.get(_BY))))]


def last_answers(desk: Desk) -> Shown:
    """What was asked before the page was opened, and its answers."""
    last = answered.kept(desk.drafts)
    return Shown() if last is None else asking.again(last, desk.drafts.typed("compare.question"))


def poll_answers(desk: Desk, cursor: Cursor) -> Shown:
    """The answers of another tab, for a page that has asked nothing itself; its own, should it have missed them."""
    mark = answered.mark(desk.drafts)
    if cursor.get("compare.answers", "") == mark:
        return Shown()
    cursor["compare.answers"] = mark
    last = answered.kept(desk.drafts)
    if last is None or cursor.get(_BY, last.by) != last.by:
        return Shown()
    # What is being written here stays.
    return asking.again(last, desk.drafts.typed("compare.question"))._replace(
        demonstration=SAME, filled=SAME, note=SAME, **({"notice": SAME} if _BY in cursor else {})
    )


def pocket_examples() -> tuple[gr.Dataset, gr.Dataset]:
    """What the pocket model can answer, and what it cannot: questions to click."""
    made = [
        gr.Dataset(components=["textbox"], samples=[[q] for q, _ in asked], label=label, min_width=240, type="values")
        for asked, label in (
            (POCKET_CAN, "The pocket model can answer"),
            (POCKET_CANNOT, "It cannot, unless it is taught"),
        )
    ]
    return made[0], made[1]


def _column(role: str) -> tuple[gr.HTML, gr.Textbox]:
    who = "student" if role == "earlier" else role
    answer = gr.HTML(answer_column(who, "", NOT_ASKED), elem_id=f"answer-{role}", padding=False)
    with gr.Accordion("The exact prompt", open=False):
        prompt = gr.Textbox(label=f"What the {who} reads", lines=2, max_lines=14, interactive=False, buttons=["copy"])
    return answer, prompt


def take(desk: Desk, sample: list[str], run: str) -> tuple[Any, Any, Filled, str]:
    """A question that was clicked, with what the teacher is shown with it."""
    text = sample[0]
    try:
        row = asking.row_for(desk, find_run(desk.runs, run), text)
    except WorkbenchError:
        row = None
    shown = shown_by(row)
    return text, shown, (text, shown), note_on(shown, run, True, None if row is None else row.answer)


def of_run(desk: Desk, name: str, chosen: tuple[int, int] = (0, 0)) -> list[Any]:
    """Its steps and its test questions, for the fields that depend on the run.

    Args:
        chosen: the student's step and that of the one beside it, as far as they are still there.
    """
    try:
        run = find_run(desk.runs, name)
        steps = [] if run is None else saved_steps(run)
        rows = [] if run is None else run.rows("held-out")[:SAMPLES]
    except WorkbenchError:
        steps, rows = [], []
    choices = [(str(step), step) for step in reversed(steps)]
    questions = [row.question for row in rows]
    step, beside = (step if step in steps else 0 for step in chosen)
    return [
        gr.update(choices=[("the newest", 0), *choices], value=step),
        gr.update(choices=[("nothing", 0), *choices], value=beside),
        gr.Dataset(samples=[[q] for q in questions], sample_labels=[cut(q, 70) for q in questions], visible=bool(rows)),
    ]


def choose(desk: Desk, cursor: Cursor, name: str) -> list[Any]:
    """Another run was chosen; it is the run in view on Teach, too."""
    if name:
        desk.drafts.choose(run=name)
    # In place, as the polls write: no run is chosen until another one comes into view.
    cursor[_NONE] = None if name else (desk.drafts.run,)
    return of_run(desk, name, _steps(cursor, name))


def choose_steps(cursor: Cursor, run: str, step: int, beside: int) -> None:
    """Steps were chosen: they stay so when the lists are drawn again."""
    cursor[_STEPS] = run, step, beside
    cursor["compare.seen"] = None  # a poll under way does not know of it, and its answer may come after the choice


_NONE, _STEPS, _BY = "chosen.compare.none", "chosen.compare.steps", "chosen.compare.by"


def restore(desk: Desk, cursor: Cursor | None = None) -> list[Any]:
    """Runs, steps and examples, from disk; what was chosen in the session stays."""
    names = run_names(desk.runs)
    value = _in_view(desk, names, cursor or {})
    runs = gr.update(choices=[*((name, name) for name in names), NO_RUN], value=value)
    return [
        runs,
        *of_run(desk, value, _steps(cursor or {}, value)),
        gr.update(visible=desk.worker.status.model == "pocket"),
    ]


def _steps(cursor: Cursor, name: str) -> tuple[int, int]:
    """The steps that were chosen of this run."""
    run, step, beside = cursor.get(_STEPS, (name, 0, 0))
    return (step, beside) if run == name else (0, 0)


def poll(desk: Desk, cursor: Cursor) -> list[Any]:
    """The same again when there is another run, another step of the one in view, or another model."""
    names = run_names(desk.runs)
    view = _in_view(desk, names, cursor)
    run = find_run(desk.runs, view)
    steps = [] if run is None else saved_steps(run)
    seen = (names, view, steps, desk.worker.status.model)
    if cursor.get("compare.seen") == seen:
        return [SAME] * 5
    cursor["compare.seen"] = seen
    return restore(desk, cursor)


def _in_view(desk: Desk, names: list[str], cursor: Cursor) -> str:
    """The run that is in view on Teach, too; else the newest. Empty if there is none, or none was chosen."""
    if cursor.get(_NONE) == (desk.drafts.run,):
        return ""
    return desk.drafts.run if desk.drafts.run in names else names[0] if names else ""


def show_code(
    desk: Desk,
    run: str,
    question: str,
    shown: str,
    step: int,
    temperature: float,
    seed: int | None,
    turns: Sequence[dict[str, str]] = (),
) -> code.Code:
    """What the command line and Python do for the same. Raises InputError where a field is missing."""
    if not run:
        raise InputError("These lines ask a run's student, and no run is chosen.", "Choose one under Student of run.")
    text = (question or "").strip() or "What is 3 plus 4?"
    return code.compare(desk, run, text, shown or "", step or None, float(temperature or 0), int(seed or 0), turns)


def _endpoint(desk: Desk) -> None:
    def compare(
        run: str,
        question: str,
        demonstration: str = "",
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> dict[str, Any]:
        """Ask base, teacher and student one question.

        Args:
            run: whose student answers; empty for the model as it was loaded.
            question: the question.
            demonstration: what the teacher is shown; empty for what the run has for this question.
            temperature: 0 takes the likeliest token each time.
            seed: of the sampling.
            step: the student at this checkpoint; 0 for the latest.

        Returns:
            The answers under `base`, `teacher` and `student`; the exact prompts by role under `prompts`; whether each
            answer is right, by role, under `right`; the right answer under `answer`. The last two are null where no
            right answer to the question is known.
        """
        try:
            return asking.compare_once(desk, run, question, demonstration, temperature, seed, step)
        except WorkbenchError as error:
            raise gr.Error(f"{error.problem} {error.advice}", print_exception=False) from error

    api(compare, api_name="compare", concurrency_limit=16)
