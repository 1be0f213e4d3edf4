"""Beside the settings of the page Teach: a run as it goes, or as it went. All of it comes from the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from workbench.app import receipts, teaching
from workbench.app.desk import LATEST, QUIET, Cursor, Desk, Shared
from workbench.errors import WorkbenchError
from workbench.events import Evaluated, Event, RolloutSample, Step
from workbench.views import loss_chart, skill_and_retention, skill_chart, state_sentence, token_map
from workbench.views.meters import before, begun
from workbench.views.text import escape, shown
from workbench.views.words import is_finished, is_taught, ran_out, step_of, steps_of

LISTED = 40
"""Tokens of the map that get their lists of choices while a run is followed: a poll must stay small."""

_CURVE = 150


@dataclass(frozen=True, slots=True)
class Watch:
    """Components that the settings' half needs."""

    run: gr.Dropdown
    checkpoint: gr.Dropdown
    back: gr.Button


def build(desk: Desk, shared: Shared) -> Watch:
    """Declare the components and wire them."""
    run = gr.Dropdown([], label="Run shown", elem_id="teach-run")
    state = gr.HTML(elem_id="teach-state", padding=False)
    meters = gr.HTML(elem_id="meters", padding=False)
    onward = gr.Button("Next: Compare", size="sm", elem_classes="onward", visible="hidden")
    with gr.Row(visible=False, elem_id="forgetting") as forgetting:
        with gr.Column(min_width=300, scale=3):
            warning = gr.HTML(padding=False)
        checkpoint = gr.Dropdown([], label="Checkpoint to go back to", min_width=220, scale=2)
        back = gr.Button("Stop and go back", variant="stop", min_width=160, scale=1)
    curves = gr.HTML(elem_id="curves", padding=False)
    answer = gr.HTML(elem_id="token-map", padding=False)
    which = gr.Radio([], label="Answer shown", visible=False, elem_id="teach-answer")
    # In the page all the same: what a component is told before it is there would be lost.
    with gr.Column(visible="hidden", elem_id="teach-replay") as replay:
        follow = gr.Checkbox(True, label="Following the newest step")
        step = gr.Slider(1, 2, value=1, step=1, label="Step shown", elem_id="teach-step")
        losses = gr.Checkbox(False, label="Show loss and agreement with the teacher")
        loss = gr.HTML(elem_id="losses", padding=False)

    parts = [run, state, meters, forgetting, warning, checkpoint, back, curves, answer, follow, step, loss, which]
    parts += [replay, onward]
    shared.on_load(lambda: poll(desk, {}), parts)
    shared.on_tick(partial(poll, desk), parts, tab="teach")
    run.input(partial(choose_run, desk), [run, shared.cursor], [shared.cursor, *parts], **LATEST)
    step.input(partial(choose_step, desk), [step, shared.cursor], [shared.cursor, *parts], **LATEST)
    follow.input(partial(choose_follow, desk), [follow, step, shared.cursor], [shared.cursor, *parts], **LATEST)
    which.input(partial(choose_answer, desk), [which, shared.cursor], [shared.cursor, *parts], **LATEST)
    losses.input(partial(choose_losses, desk), [losses, shared.cursor], [shared.cursor, *parts], **LATEST)
    shared.on_load(lambda: [False], [losses])
    onward.click(lambda: gr.Tabs(selected="compare"), None, shared.tabs, **QUIET)
    return Watch(run, checkpoint, back)


def choose_run(desk: Desk, name: str | None, cursor: Cursor) -> list[Any]:
    """Look at another run, at its newest step."""
    if name and name in teaching.run_names(desk):
        desk.drafts.choose(run=name)
    cursor["chosen.teach.step"] = None
    return _show(desk, cursor)


def choose_step(desk: Desk, step: int, cursor: Cursor) -> list[Any]:
    """Look at one step; the newest is no longer followed."""
    cursor["chosen.teach.step"] = int(step)
    return _show(desk, cursor)


def choose_follow(desk: Desk, follow: bool, step: int, cursor: Cursor) -> list[Any]:
    """Follow the newest step again, or stay where one is."""
    cursor["chosen.teach.step"] = None if follow else int(step)
    return _show(desk, cursor)


def choose_answer(desk: Desk, which: str | None, cursor: Cursor) -> list[Any]:
    """Look at another answer of the step, such as that to a keep row."""
    cursor["chosen.teach.which"] = which
    return _show(desk, cursor)


def choose_losses(desk: Desk, show: bool, cursor: Cursor) -> list[Any]:
    """Draw the loss, or do not."""
    cursor["chosen.teach.losses"] = bool(show)
    return _show(desk, cursor)


def _show(desk: Desk, cursor: Cursor) -> list[Any]:
    receipts.clicked(cursor)
    return [cursor, *poll(desk, cursor)]


def poll(desk: Desk, cursor: Cursor) -> list[Any]:
    """What has changed since it was last shown, in the order of `build`'s parts.

    An empty cursor gives everything. The work for one step more does not grow with the run, and what one viewer was
    shown of it is not made again for the next.
    """
    name = desk.drafts.run
    log = desk.mark(name)
    once = partial(_once, desk, None if log is None else (name, log))
    names = teaching.run_names(desk)
    events = teaching.events_of(desk, name)
    # Another run is shown at its newest step; what was chosen before the first poll is no other run.
    if cursor.get("teach.run", name) != name:
        cursor["chosen.teach.step"] = None
    cursor["teach.run"] = name
    chosen_step, chosen_answer = cursor.get("chosen.teach.step"), cursor.get("chosen.teach.which")
    at = chosen_step or step_of(events)
    last, over = step_of(events), is_finished(events)
    measured = next((e.step for e in reversed(events) if isinstance(e, Evaluated)), 0)
    size = 1 + last // _CURVE
    show = bool(cursor.get("chosen.teach.losses"))
    status = desk.worker.status
    new = partial(_new, cursor)
    smaller = _smaller(cursor, name, events)
    answer, which = gr.skip(), gr.skip()
    if new("answer", (name, at, status.run == name, chosen_answer)):
        samples = once("answers", (at,), lambda: answers_of(desk, name, at))
        chosen = chosen_answer if chosen_answer in samples else next(iter(samples), None)
        sample = None if chosen is None else samples[chosen]
        answer = once("answer", (at, chosen), lambda: answer_html(desk, name, at, sample))
        if new("which", (tuple(samples), chosen)):
            which = gr.update(choices=list(samples), value=chosen, visible=len(samples) > 1)
    limit = teaching.limit(desk)
    warned = new("warning", (name, measured, len(events) < 3, limit, _taught(desk)))
    state = state_html(desk, name, events, smaller)

    def grown(part: str) -> bool:
        return new(part, (name, measured, len(events) < 3))

    def warning() -> tuple[str, tuple[tuple[str, int], ...]]:
        text, back = teaching.warning(desk, name, events)
        return text, tuple(back)

    return [
        _runs(names, name) if new("runs", (name, *names)) else gr.skip(),
        state if new("state", state) else gr.skip(),
        once("meters", (), lambda: meters_html(name, events)) if grown("meters") else gr.skip(),
        *(_forgetting(desk, once("warning", (limit,), warning)) if warned else [gr.skip()] * 4),
        once("curves", (), lambda: curves_html(events)) if grown("curves") else gr.skip(),
        answer,
        chosen_step is None if new("follow", chosen_step is None) else gr.skip(),
        _slider(events, at) if new("slider", (name, at, last)) else gr.skip(),
        loss_html(events, show) if new("loss", (name, show, show and last // size)) else gr.skip(),
        which,
        gr.update(visible=True if last else "hidden") if new("replay", bool(last)) else gr.skip(),
        gr.update(visible=True if over else "hidden") if new("onward", over) else gr.skip(),
    ]


def _new(cursor: Cursor, part: str, key: Any) -> bool:
    """Whether a part of the page is to be drawn anew, and a note that it was."""
    seen = cursor.get(f"teach.{part}.key")
    cursor[f"teach.{part}.key"] = key
    return bool(seen != key)


def _once(desk: Desk, log: Hashable | None, part: str, of: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """A part of the page as it is of this run's log (None: not there yet), made for the first viewer who needs it."""
    return desk.made.once(f"teach.{part}", None if log is None else (log, *of), make)


def _taught(desk: Desk) -> bool:
    return is_taught(desk.drafts.run or "", desk.worker.status)


def can(desk: Desk) -> list[bool]:
    """Whether one can start, stop, resume."""
    status, name = desk.worker.status, desk.drafts.run
    events = teaching.events_of(desk, name)
    idle = status.alive and status.state == "idle"
    return [idle, status.state == "teaching", idle and bool(name and events) and not is_finished(events)]


def _smaller(cursor: Cursor, name: str | None, events: list[Event]) -> str:
    """What happened in the last step in which memory ran out; only new events are looked at."""
    run, seen, said = cursor.get("teach.smaller", (None, 0, ""))
    if run != name or seen > len(events):
        seen, said = 0, ""
    for event in events[seen:]:
        if isinstance(event, Step) and event.smaller:
            said = ran_out(event)
    cursor["teach.smaller"] = (name, len(events), said)
    return str(said)


def state_html(desk: Desk, name: str | None, events: list[Event], smaller: str = "") -> str:
    """How the run in view stands, in words.

    Args:
        smaller: what was done where memory ran out.
    """
    if not name:
        return (
            '<div class="wb wb-state">Nothing was taught yet. Choose examples, check the teacher, and press '
            "<b>Start teaching</b>.</div>"
        )
    status = desk.worker.status
    taught = is_taught(name, status)
    said = state_sentence(events, status, name, elsewhere=not taught and _busy(desk, name))
    problem = "" if taught else teaching.problem_of(desk, name)
    if problem and not events:
        said = "It was not begun."
    elif not events and not taught and not teaching.is_there(desk, name):
        said = "Getting ready."
    other = ""
    if status.run and status.run != name and status.state in ("teaching", "stopping"):
        other = f'<div class="wb-note">Being taught now: {shown(status.run)}. Choose it above to watch.</div>'
    other += f'<div class="wb-note">{escape(smaller)}</div>' if smaller else ""
    alert = f'<div class="wb-wrong" role="alert">{shown(problem, 1000)}</div>' if problem else ""
    return (
        f'<div class="wb wb-state"><b>{shown(name)}</b> {_about(events)}<div>{escape(said)}</div>{_bar(events)}'
        f"{alert}{other}</div>"
    )


def _busy(desk: Desk, name: str) -> bool:
    try:
        return desk.run(name).is_busy
    except WorkbenchError:
        return False


def _about(events: list[Event]) -> str:
    first = begun(events)
    if first is None:
        return ""
    if not first.steps:
        return f'<span class="wb-muted">an adapter from elsewhere, on {escape(first.model)}</span>'
    keep = f", {first.keep} keep row{'s' if first.keep != 1 else ''}" if first.keep else ""
    checked = before(events)
    none = ", none with a right answer" if first.held_out and checked is not None and checked.base is None else ""
    return (
        f'<span class="wb-muted">{escape(first.method.upper())} on {escape(first.model)}: {first.teaching} '
        f"{'example teaches' if first.teaching == 1 else 'examples teach'}, {first.held_out} "
        f"{'is' if first.held_out == 1 else 'are'} kept back for the test{none}{keep}</span>"
    )


def _bar(events: list[Event]) -> str:
    step, steps = step_of(events), steps_of(events)
    if not steps:
        return ""
    return (
        f'<div class="wb-bar wb-thin" role="progressbar" aria-label="Steps" aria-valuemin="0" aria-valuemax="{steps}" '
        f'aria-valuenow="{step}"><span class="wb-fill" style="width:{step / steps * 100:.1f}%"></span></div>'
    )


def meters_html(name: str | None, events: list[Event]) -> str:
    """What was measured last; nothing as long as there is no run."""
    return skill_and_retention(events) if name else ""


def curves_html(events: list[Event]) -> str:
    """Skill and retention over the steps."""
    return skill_chart(events, _CURVE) if steps_of(events) else ""


def loss_html(events: list[Event], show: bool) -> str:
    """Loss and agreement, where they are asked for."""
    return loss_chart(events, _CURVE) if show and events else ""


def answers_of(desk: Desk, name: str | None, at: int) -> dict[str, RolloutSample]:
    """The answers of one step that were kept, by what they are called."""
    step = desk.step(name, at) if name and at else None
    samples = step.samples if step is not None else ()
    taught = [sample for sample in samples if not sample.keep]
    kept = [sample for sample in samples if sample.keep]
    called = {f"Answer {number}": sample for number, sample in enumerate(taught, start=1)}
    for number, sample in enumerate(kept, start=1):
        called[f"Keep row {number}" if len(kept) > 1 else "Keep row"] = sample
    return called


def answer_html(desk: Desk, name: str | None, at: int, sample: RolloutSample | None) -> str:
    """The student's own answer of one step."""
    if sample is not None:
        right = None if sample.keep else _right_answers(desk, name).get(sample.prompt)
        return token_map(sample, f"The student's own answer at step {at}", LISTED, right=right)
    if not name or not at or desk.step(name, at) is None:
        return _empty("Here the student's own answer will be, each token coloured by how far its teacher disagrees.")
    return _empty(
        "This method copies the examples, so the student gives no answers of its own while it learns. Skill and "
        "retention are measured all the same; on Compare you can ask it."
    )


def _right_answers(desk: Desk, name: str | None) -> dict[str, str]:
    """The right answers of a run's teaching rows, by question."""
    try:
        run = desk.run(name or "")
        file = (run.path / "demonstrations.jsonl").stat()
        read = partial(run.rows, "teaching")
        return desk.made.once(
            "right answers", (file.st_ino, file.st_mtime_ns), lambda: {r.question: r.answer for r in read() if r.answer}
        )
    except (WorkbenchError, OSError):
        return {}


def _empty(text: str) -> str:
    return f'<div class="wb wb-map"><p class="wb-note">{escape(text)}</p></div>'


def _slider(events: list[Event], at: int) -> Any:
    last = step_of(events)
    return gr.update(minimum=1, maximum=max(2, last), value=max(1, at), interactive=last > 1)


def _runs(names: list[str], name: str | None) -> Any:
    known = names if name is None or name in names else [name, *names]
    return gr.update(choices=known, value=name, visible=bool(known))


def _forgetting(desk: Desk, said: tuple[str, tuple[tuple[str, int], ...]]) -> list[Any]:
    """The warning with what one can do: row, words, checkpoints, button."""
    text, back = said
    label = "Stop and go back" if _taught(desk) else "Go back"
    html = f'<div class="wb wb-warning" role="alert">{escape(text)}</div>' if text else ""
    return [
        gr.update(visible=bool(text)),
        html,
        gr.update(choices=list(back), value=back[0][1] if back else None, visible=bool(back)),
        gr.update(value=label, visible=bool(back)),
    ]
