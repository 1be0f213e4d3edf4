"""What the page Compare does with a question: ask it, ask it often, look closer, keep it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gradio as gr

from workbench.app.answered import Answered, keep
from workbench.app.desk import Desk
from workbench.app.questions import (
    POCKET_CAN,
    POCKET_CANNOT,
    ROLES,
    Answers,
    Question,
    Sampling,
    at_step,
    find_run,
    follow,
    make_question,
    shown_by,
    tally,
)
from workbench.app.sittings import cut
from workbench.app.underway import UnderWay
from workbench.demonstrations import Demonstration
from workbench.demonstrations.record import row_of
from workbench.errors import InputError, WorkbenchError
from workbench.events import RolloutSample
from workbench.runs import Run
from workbench.views.columns import answer_column, title_of
from workbench.views.text import escape
from workbench.views.text import shown as safe
from workbench.views.token_map import token_map
from workbench.worker import WasStopped

SAME: Any = gr.skip()
TIMES = 5
WAIT = 60.0
NO_STUDENT = "There is no student yet. Teach one on the Teach page, or choose a run above; then ask again."
CARRIED = "Asked with the conversation before it. Start over, under Go on with the conversation, begins anew."
NOT_ASKED = "Its answer comes here."

Filled = tuple[str, str]
"""For which question the teacher's field was filled in last, and with what."""


@dataclass(frozen=True, slots=True)
class Form:
    """What stands in the fields of the page when a question is asked, in the order in which the page sends them.

    Attributes:
        shown: the teacher's field.
        filled: for which question that field was filled in, and with what.
        run, step: whose student is asked, empty and 0 for none and the latest.
        beside: the step of a second student, 0 for none.
        turns: the conversation before the question.
        by: the page that asks.
    """

    text: str
    shown: str = ""
    filled: Filled = ("", "")
    run: str = ""
    step: int = 0
    beside: int = 0
    temperature: float | None = 0.0
    top_p: float | None = 1.0
    top_k: int | None = 0
    seed: int | None = 0
    longest: int | None = None
    turns: Sequence[dict[str, str]] = ()
    by: str = ""

    def sampling(self) -> Sampling:
        """How the answers are drawn. Raises InputError on a number that cannot be."""
        return Sampling.of(self.temperature, self.top_p, self.top_k, self.seed, self.longest)


class Shown(NamedTuple):
    """What asking changes on the page, in the order of its outputs."""

    notice: Any = SAME
    base: Any = SAME
    teacher: Any = SAME
    student: Any = SAME
    earlier: Any = SAME
    base_prompt: Any = SAME
    teacher_prompt: Any = SAME
    student_prompt: Any = SAME
    earlier_prompt: Any = SAME
    earlier_column: Any = SAME
    demonstration: Any = SAME
    filled: Any = SAME
    note: Any = SAME
    asked: Any = SAME
    question: Any = SAME


class Asked(NamedTuple):
    """The last question with its answers by role, and how many turns of the conversation were before it."""

    question: Question
    texts: dict[str, str]
    turns: int = 0


def prepare(
    desk: Desk, text: str, shown: str, filled: Filled, run: str, step: int, turns: Sequence[dict[str, str]] = ()
) -> tuple[Question, Filled]:
    """The question as it will be asked, and what its field was filled with.

    What a person wrote into the teacher's field, or deleted there, is left as it is; otherwise it is filled in from
    the run's row of the same question.

    Raises:
        InputError: there is no question, or no such run.
    """
    text, shown = (text or "").strip(), (shown or "").strip()
    found = find_run(desk.runs, run)
    row = row_for(desk, found, text)
    touched = shown != filled[1].strip()
    if not (touched and (shown or text == filled[0])):
        shown = shown_by(row)
        filled = (text, shown)
    scorer = desk.drafts.choices.scorer if found is None else str(found.config.get("scorer", "contains"))
    question = make_question(text, shown=shown, row=row, run=run or None, step=step or None, turns=turns, scorer=scorer)
    return question, filled


def row_for(desk: Desk, run: Run | None, text: str) -> Demonstration | None:
    """The run's row that asks this; without a run, the row on the Examples page; else one of what the pocket can do."""
    rows = desk.drafts.good if run is None else [*run.rows("held-out"), *run.rows("teaching")]
    row = row_of(rows, text)
    if row is None and desk.worker.status.model == "pocket":
        row = row_of((Demonstration(asked, answer=right) for asked, right in POCKET_CAN + POCKET_CANNOT), text)
    return row


def first_question(desk: Desk, run: str) -> str:
    """A question that was kept back from teaching, as it would be clicked; empty where there is none."""
    found, drafts = find_run(desk.runs, run), desk.drafts
    if found is None and not drafts.good:
        return ""
    rows = drafts.split().held_out if found is None else found.rows("held-out")
    return rows[0].question if rows else ""


def ask(desk: Desk, form: Form) -> Iterator[Shown]:
    """Ask all three; the answers grow as they are drawn. Without a question it is the first one of the test."""
    empty = not (form.text or "").strip() and not form.turns
    try:
        if empty:
            form = replace(form, text=first_question(desk, form.run), shown="", filled=("", ""))
        question, filled = prepare(desk, form.text, form.shown, form.filled, form.run, form.step, form.turns)
        sampling = form.sampling()
    except WorkbenchError as error:
        yield Shown(notice=problem(error))
        return
    roles = ROLES if question.run else ROLES[:2]
    first = desk.worker.call("ask", **question.arguments(sampling, roles))
    second = None
    if question.run and form.beside:
        second = desk.worker.call("ask", **at_step(question, form.beside).arguments(sampling, ["student"]))
    under_way(desk).add(form.by, first, second)
    keep(desk.drafts, question, filled, form.beside, form.by, len(form.turns), first, second)
    loading = desk.worker.status.state == "loading"
    blank = {f"{role}_prompt": "" for role in (*ROLES, "earlier")}
    yield Shown(
        notice=line("The model is being loaded; the answers come as soon as it is there.") if loading else "",
        **columns(question, Answers(), roles),
        **blank,
        earlier=_answer("earlier", Answers(), form.beside),
        earlier_column=gr.update(visible=second is not None),
        **_teacher_field(question, filled),
        asked=None,
        question=question.text if empty else SAME,
    )
    answers = Answers()
    for answers in follow(first, time.monotonic):
        if answers.problem:
            said = answers.problem + ("" if answers.stopped else _or_without(desk, form.run))
            lost = Answers(problem=answers.problem, stopped=answers.stopped)
            yield Shown(
                notice=line(said, wrong=not answers.stopped),
                **columns(question, answers, roles),
                earlier=SAME if second is None else _answer("earlier", lost, form.beside),
            )
            return
        if not answers.done:
            yield Shown(notice="" if answers.texts else SAME, **columns(question, answers, roles))
    # All in one: who is quick looks closer as soon as the answers stand there.
    yield Shown(
        notice=line(CARRIED) if form.turns else "",
        **columns(question, answers, roles),
        **{f"{role}_prompt": answers.prompts.get(role, "") for role in roles},
        asked=Asked(question, {role: answers.texts.get(role, "") for role in roles}, len(form.turns)),
    )
    for earlier in follow(second or (), time.monotonic):
        if earlier.problem:
            stopped = _answer("earlier", earlier, form.beside)
            yield Shown(notice=line(earlier.problem, wrong=not earlier.stopped), earlier=stopped)
            return
        prompt = earlier.prompts.get("student", "")
        yield Shown(earlier=_answer("earlier", earlier, form.beside), earlier_prompt=prompt)


def under_way(desk: Desk) -> UnderWay:
    """The questions that are being answered."""
    made: UnderWay = desk.tasks.setdefault("compare.asked", UnderWay())
    return made


def again(last: Answered, typed: str) -> Shown:
    """What was asked before, as it was shown.

    Args:
        typed: what stands in the question's field; what the teacher is shown belongs to that.
    """
    question, roles = last.question, tuple(role for role in ROLES if role in last.answers.texts)
    whose = f" of run {question.run}" if question.run else ""
    said = f"The last answers{whose}, to \N{LEFT DOUBLE QUOTATION MARK}{cut(question.text, 200)}"
    return Shown(
        notice=line(f"{said}\N{RIGHT DOUBLE QUOTATION MARK}."),
        **columns(question, last.answers, roles),
        earlier=_answer("earlier", last.earlier, last.beside),
        **{f"{role}_prompt": last.answers.prompts.get(role, "") for role in ROLES},
        earlier_prompt=last.earlier.prompts.get("student", ""),
        earlier_column=gr.update(visible=bool(last.beside)),
        **(_teacher_field(question, last.filled) if typed.strip() == question.text else {}),
        asked=Asked(question, {role: last.answers.texts[role] for role in roles}, last.turns),
    )


def _teacher_field(question: Question, filled: Filled) -> dict[str, Any]:
    """The field with what the teacher is shown, and what is said about it."""
    note = note_on(question.shown, question.run or "", filled == (question.text, question.shown), question.right)
    return {"demonstration": question.shown, "filled": filled, "note": note}


def _or_without(desk: Desk, name: str) -> str:
    """What else can be done where a run's model is not the one in memory."""
    run = find_run(desk.runs, name)
    if run is None or run.config.get("model") == desk.worker.status.model:
        return ""
    return " Or choose No run under Student of run, to ask base and teacher alone."


def columns(question: Question, answers: Answers, roles: Sequence[str]) -> dict[str, str]:
    """The three columns as they stand."""
    made = {role: _answer(role, answers, question.step, run=question.run or "") for role in roles}
    if "student" not in roles:
        made["student"] = answer_column("student", "", NO_STUDENT)
    if not question.shown:
        # Said where it is seen: both then read the same.
        made["teacher"] = _answer("teacher", answers, None, "Shown nothing, so it reads what the base reads. ")
    return made


def _answer(column: str, answers: Answers, step: int | None, note: str = "", run: str = "") -> str:
    """One answer with its time and its tokens, and whose it is: another run may be chosen while it stands there."""
    role = "student" if column == "earlier" else column
    if role in answers.seconds:
        tokens = answers.tokens[role]
        note += f"{answers.seconds[role]:.2f} s, {tokens} token{'s' if tokens != 1 else ''}"
    else:
        over = "Stopped here." if answers.stopped and answers.texts.get(role) else "No answer."
        note += over if answers.problem else "Answering \N{HORIZONTAL ELLIPSIS}"
    text = answers.texts.get(role, "")
    if role in answers.seconds and not text:
        text = "(it said nothing)"
    return answer_column(role, text, note, answers.right.get(role), title=title_of(role, run, step))


def note_on(shown: str, run: str, found: bool, right: str | None) -> str:
    """A sentence about what the teacher is shown, and the right answer where it is known."""
    whose = "the run" if run else "your examples"
    if shown and found:
        said = f"From {whose}: it has this question. Change it to see what the teacher makes of something else."
    elif shown:
        said = "Written by you. Empty the field to go back to what is known."
    else:
        said = (
            f"Empty: this question is not one of {whose}, so no example is known for it and the teacher reads the "
            "question alone. Write how somebody would answer it, and ask again."
        )
    return line(f"{said} The right answer: {cut(right, 200)}" if right else said)


def ask_often(desk: Desk, form: Form) -> Iterator[tuple[Any, Any]]:
    """What each usually says: the same question several times, and how often each answer came."""
    try:
        question, _ = prepare(desk, form.text, form.shown, form.filled, form.run, form.step, form.turns)
        chosen = replace(form, temperature=form.temperature or 1.0).sampling()
        roles = ROLES if question.run else ROLES[:2]
        yield line(f"Asking {TIMES} times \N{HORIZONTAL ELLIPSIS}"), SAME
        call = desk.worker.call("ask", **question.arguments(chosen, roles, TIMES))
        under_way(desk).add(form.by, call)
        result = call.result()
    except WorkbenchError as error:
        yield problem(error), SAME
        return
    drawn = f"Drawn at temperature {chosen.temperature:g}"
    drawn += "; at 0 all would be the same." if not form.temperature else "."
    made = []
    for role in roles:
        often = [_often(*counted) for counted in tally(result["answers"][role])]
        made.append(answer_column(role, often, title=title_of(role, question.run or "", question.step)))
    asked = (
        f'<div class="wb"><p>What they usually say to \N{LEFT DOUBLE QUOTATION MARK}{safe(question.text)}'
        f"\N{RIGHT DOUBLE QUOTATION MARK}. {escape(drawn)}</p></div>"
    )
    yield "", f'{asked}<div class="wb-columns">{"".join(made)}</div>'


def _often(said: str, times: int, right: bool | None) -> str:
    """One of the answers to a question that was asked several times."""
    mark = "" if right is None else ", right" if right else ", wrong"
    return f"{times} of {TIMES}{mark}: {cut(said, 2000)}"


def look(desk: Desk, of: str, asked: Asked | None) -> tuple[Any, Any]:
    """The token map of the student's answer under the teacher, or of the teacher's under the student."""
    if asked is None:
        said = "There are no answers to look at yet. Ask a question first; if you have, wait until it is answered."
        return line(said, wrong=True), SAME
    if asked.question.run is None:
        return line(NO_STUDENT, wrong=True), SAME
    question = asked.question
    arguments = question.arguments(Sampling())
    arguments = {name: arguments[name] for name in ("messages", "demonstration", "context", "run", "step")}
    try:
        find_run(desk.runs, question.run)  # it may have been deleted since
        result = desk.worker.call("map", **arguments, of=of, text=asked.texts[of]).result(WAIT)
    except WorkbenchError as error:
        return problem(error), SAME
    except TimeoutError:
        return line("The model is busy. Look at the line at the top of the page, and try again.", wrong=True), SAME
    other = "teacher" if of == "student" else "student"
    title = f"The {of}'s answer, seen by the {other}"
    return "", token_map(RolloutSample.from_dict(result["sample"]), title, judge=other, right=question.right)


def keep_question(desk: Desk, text: str) -> str:
    """Put the question on the keep list."""
    if not (text or "").strip():
        return line("Write a question whose answer should not change, then press Keep this.", wrong=True)
    if row_of(desk.drafts.good, text) is not None:
        said = "It is one of your examples, which are there to change its answer. Delete it there first."
        return line(f"Not kept. {said}", wrong=True)
    new = desk.drafts.add_keep(text.strip())
    count = len(desk.drafts.keep)
    if not new:
        return line(f"It is on the keep list already ({count} in all).")
    return line(
        f"Kept: teaching will hold the student to what the base answers to this question. {count} on the keep list, "
        "which the Examples page shows."
    )


def compare_once(
    desk: Desk, run: str, question: str, demonstration: str, temperature: float, seed: int, step: int
) -> dict[str, Any]:
    """The same for programs: three answers, their prompts, whether each is right, and what the right answer is.

    Raises:
        WorkbenchError: the question, the run, the step or the worker is at fault.
    """
    asked, _ = prepare(desk, question, demonstration, ("", ""), run, step)
    sampling = Sampling.of(temperature, 1.0, 0, seed, None)
    try:
        call = desk.worker.call("ask", **asked.arguments(sampling))
        under_way(desk).add("", call)
        result = call.result(WAIT)
    except TimeoutError as error:
        raise WorkbenchError("There is no answer yet.", "See /status for what is going on; ask again.") from error
    first = {role: result["answers"][role][0] for role in ROLES}
    return {
        **{role: answer["text"] for role, answer in first.items()},
        "prompts": result["prompts"],
        "right": {role: answer.get("right") for role, answer in first.items()},
        "answer": asked.right,
    }


def problem(error: WorkbenchError) -> str:
    """An error as a line on the page."""
    return line(f"{error.problem} {error.advice}", wrong=not isinstance(error, InputError | WasStopped))


def line(text: str, wrong: bool = False) -> str:
    """A sentence on the page."""
    if not text:
        return ""
    return f'<p class="compare-line{" compare-wrong" if wrong else ""}">{escape(text)}</p>'
