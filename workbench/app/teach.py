"""The page Teach: begin, watch, stop, resume, look back at any step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import gradio as gr

from workbench.app import choosing, code, fields, refusal, teaching, watching
from workbench.app.choosing import PLAIN
from workbench.app.desk import LATEST, QUIET, Cursor, Desk, Shared
from workbench.app.fields import Key
from workbench.app.notes import note, wrong
from workbench.errors import InputError, WorkbenchError
from workbench.settings import Settings

METHODS = [
    ("SDFT: the student answers by itself, and the teacher, who sees the example, corrects it", "sdft"),
    ("SFT: the student copies the examples word by word (the usual way, to compare with)", "sft"),
]
FURTHER = "This teaching goes on from {}. To begin with the model itself, change Start from under Advanced."
KEEP = "Keep what it knows"


def build(desk: Desk, shared: Shared) -> None:
    """Declare the page's components and wire their handlers; called inside its tab."""
    # On a phone one below the other: what one presses, what comes of it, and only then what can be set.
    with gr.Row(equal_height=False, elem_id="teach-page"):
        with gr.Column(min_width=0, elem_id="teach-press"):
            with gr.Row():
                # Grey until the first poll, which fills in the form: it would overwrite what is typed before it.
                grey: dict[str, Any] = {"interactive": False, "size": "md"}
                begin = gr.Button("Start teaching", variant="primary", min_width=150, scale=2, **grey)
                halt = gr.Button("Stop", variant="stop", min_width=80, **grey)
                again = gr.Button("Resume", min_width=100, **grey)
            further = gr.HTML(elem_id="teach-further", padding=False)
            problem = gr.HTML(elem_id="teach-problem", padding=False)
        with gr.Column(min_width=0, elem_id="teach-form"):
            name = gr.Textbox(label="Name of the run", info="Empty: named after the examples.", max_length=100)
            steps = gr.Number(
                fields.shown(desk, ("optim", "steps")),
                label="How long (steps)",
                info="In a step the student answers a batch of questions and is moved a little. More steps learn more.",
                precision=0,
            )
            rate = gr.Dropdown(
                rates(desk),
                value=rate_text(fields.shown(desk, ("optim", "lr"))),
                label="How strongly (learning rate)",
                info="How far each step moves it. Strong learns fast and forgets more. You can type a number.",
                allow_custom_value=True,
            )
            method = gr.Radio(METHODS, value=desk.drafts.method, label="Method")
            keep = gr.Checkbox(keeps(desk), label=KEEP, info=keep_info(desk))
            share = gr.Slider(0.05, 0.9, value=share_of(desk), step=0.05, label="Share of each batch that is keep rows")
            with gr.Accordion("Advanced: all settings", open=False):
                on = gr.Dropdown([PLAIN], value=PLAIN, label="Start from", info="A finished run can be taught further.")
                choices = desk.drafts.choices
                every = gr.Number(choices.evaluate_every, label="Measure every so many steps", precision=0)
                save = gr.Number(choices.save_every, label="Save a checkpoint every so many steps", precision=0)
                warn = gr.Number(teaching.limit(desk), label="Warn if retention falls by more points than", precision=0)
                amiss = gr.HTML(elem_id="teach-wrong", padding=False)
                more, places = fields.advanced(desk)
                usual = gr.Button("Back to the usual settings", size="sm")
                usual_said = gr.HTML(elem_id="teach-usual", padding=False)
        with gr.Column(min_width=0, elem_id="teach-run-shown"):
            watch = watching.build(desk, shared)

    keys: list[Key] = list(more)
    typed = [steps, rate, keep, share, every, save, *more.values()]
    inputs = [shared.cursor, name, method, on, *typed]
    begin.click(partial(press_start, desk, keys), inputs, [problem, watch.run, name], **QUIET)
    halt.click(partial(press_stop, desk), None, problem, **QUIET)
    again.click(partial(press_resume, desk), watch.run, problem, **QUIET)
    watch.back.click(partial(press_back, desk), [watch.run, watch.checkpoint], [problem, watch.run], **QUIET)

    for key, field in more.items():
        choosing.follow(partial(choosing.set_one, desk, key), [field], shared.cursor, places[key[0]])
    choosing.follow(partial(choosing.set_one, desk, ("optim", "steps")), [steps], shared.cursor, problem)
    choosing.follow(partial(choosing.set_keep, desk), [keep, share], shared.cursor, problem)
    choosing.follow(partial(choosing.set_every, desk), [every, save], shared.cursor, amiss)
    choosing.follow(partial(choosing.set_limit, desk), [warn], shared.cursor, amiss)
    rate.input(partial(choosing.told, choosing.set_rate, desk), rate, problem, **LATEST)
    on.input(partial(choosing.told, choosing.set_on, desk), on, problem, **LATEST)
    method.input(lambda value: desk.drafts.choose(method=value), method, None, **LATEST)
    shared.remember(name, refusal.NAME)

    form = [steps, rate, method, keep, share, on, further, every, save, *more.values()]
    whole = [*form, warn]
    usual.click(partial(press_usual, desk, keys), shared.cursor, [usual_said, amiss, *places.values(), *whole], **QUIET)
    shared.on_load(lambda: [*form_values(desk, keys), teaching.limit(desk)], whole)
    # In view or not: filled in only once the tab is in view, it would overwrite what is typed there at once.
    shared.on_tick(partial(poll_form, desk, keys), form)
    shared.on_tick(partial(poll_buttons, desk), [begin, halt, again], tab="teach")
    shared.on_tick(lambda seen: ["" if refusal.mended(desk, seen) else gr.skip()], [problem], tab="teach")
    code.button(partial(code.teach, desk), [name])
    publish(desk)


def press_start(
    desk: Desk, keys: Sequence[Key], cursor: Cursor, name: str, method: str, on: str, *typed: Any
) -> list[Any]:
    """Begin with what the page shows; returns problem, run in view, name."""
    refusal.forget(cursor)
    steps, rate, keep, share, every, save, *more = typed
    try:
        choosing.put(desk, {**dict(zip(keys, more, strict=True)), ("optim", "steps"): steps})
        choosing.set_rate(desk, rate)
        choosing.set_keep(desk, keep, share)
        choosing.set_every(desk, every, save)
        choosing.set_on(desk, on)
        desk.drafts.choose(method=method)
    except WorkbenchError as error:
        return [wrong(error), gr.skip(), gr.skip()]
    idle = desk.worker.status.state == "idle"
    try:
        made = teaching.start(desk, name)
    except WorkbenchError as error:
        refusal.keep(desk, cursor, name, idle)
        return [wrong(error), gr.skip(), gr.skip()]
    desk.drafts.type(refusal.NAME, "")
    return ["", gr.update(choices=_with(desk, made), value=made), ""]


def press_usual(desk: Desk, keys: Sequence[Key], cursor: Cursor) -> list[Any]:
    """The button Back to the usual settings; returns what is said, nothing for each place of errors, and the form."""
    said = choosing.as_usual(desk, cursor)
    values = form_values(desk, keys)
    return [said, *[""] * (1 + len({group for group, _ in keys})), *values, teaching.limit(desk)]


def press_stop(desk: Desk) -> str:
    """Stop what is going on."""
    try:
        was = teaching.stop(desk)
    except (WorkbenchError, TimeoutError) as error:
        return note(str(error), "wrong")
    return "" if was in ("teaching", "stopping") else note("Nothing is being taught just now.", "info")


def press_resume(desk: Desk, run: str | None) -> str:
    """Go on with the run in view."""
    try:
        if not run:
            raise InputError("There is no run to go on with.", "Start teaching first.")
        began = Settings.from_dict(desk.run(run).config.get("settings") or {}).optim
        teaching.resume(desk, run)
    except WorkbenchError as error:
        return wrong(error)
    if all(getattr(began, name) == fields.shown(desk, ("optim", name)) for name in ("steps", "lr")):
        return ""
    how = f"{began.steps} steps, learning rate {began.lr:g}"
    return note(f"{run} goes on as it began, whatever stands in the form now: {how}.", "info")


def press_back(desk: Desk, run: str | None, step: int | None) -> list[Any]:
    """Stop, and make a run that ends at an earlier checkpoint."""
    try:
        if not run or step is None:
            raise InputError("Choose a checkpoint to go back to.", "They are in the list beside the button.")
        made = teaching.stop_and_go_back(desk, run, int(step))
    except (WorkbenchError, TimeoutError) as error:
        return [note(str(error), "wrong"), gr.skip()]
    said = f"Run {run} was left as it is. The new run {made} ends at step {step}; compare or export it."
    return [note(said), gr.update(choices=_with(desk, made), value=made)]


def _with(desk: Desk, name: str) -> list[str]:
    """All runs, and one whose folder may not be there yet."""
    names = teaching.run_names(desk)
    return names if name in names else [name, *names]


def keeps(desk: Desk) -> bool:
    """Whether keep rows are used."""
    return bool(fields.shown(desk, ("keep", "keep_share")))


def share_of(desk: Desk) -> float:
    """The share of keep rows, or what it would be."""
    return float(fields.shown(desk, ("keep", "keep_share")) or 0.2)


def keep_info(desk: Desk) -> str:
    """What keep rows are, and how many there are."""
    count = len(desk.drafts.keep)
    if not count:
        return "There are no keep rows yet: questions whose answers should stay as they are. Add some on Examples."
    batch = int(fields.shown(desk, ("optim", "batch")))
    rows = round(batch * share_of(desk))
    kept = "1 question whose answer" if count == 1 else f"{count} questions whose answers"
    return f"{kept} should stay as {'it is' if count == 1 else 'they are'}; {rows} of the {batch} in each step."


def rates(desk: Desk) -> list[str]:
    """Learning rates in words."""
    usual = float(teaching.default_of(desk, "optim", "lr"))
    return [f"{word} ({usual * factor:g})" for word, factor in (("gently", 0.4), ("as usual", 1), ("strongly", 2))]


def rate_text(rate: float) -> str:
    """A learning rate as a number; `build` and `form_values` find its word in the list."""
    return f"{rate:g}"


def form_values(desk: Desk, keys: Sequence[Key]) -> list[Any]:
    """What all fields should hold, from the draft and the model."""
    rate = float(fields.shown(desk, ("optim", "lr")))
    listed = rates(desk)
    word = next((text for text in listed if text.endswith(f"({rate:g})")), rate_text(rate))
    choices = desk.drafts.choices
    runs = teaching.finished_runs(desk)
    started = choices.on if choices.on in runs else PLAIN
    return [
        fields.shown(desk, ("optim", "steps")),
        gr.update(choices=listed, value=word),
        desk.drafts.method,
        gr.update(
            value=keeps(desk) and bool(desk.drafts.keep), info=keep_info(desk), interactive=bool(desk.drafts.keep)
        ),
        gr.update(value=share_of(desk), visible=bool(desk.drafts.keep)),
        gr.update(choices=[PLAIN, *runs], value=started),
        note("" if started == PLAIN else FURTHER.format(started), "info"),
        choices.evaluate_every,
        choices.save_every,
        *fields.values(desk, list(keys)),
    ]


def poll_form(desk: Desk, keys: Sequence[Key], cursor: Cursor) -> list[Any]:
    """The fields, if the draft was changed elsewhere (another tab or page), or another model was loaded."""
    unchanged = [gr.skip()] * (9 + len(keys))
    if choosing.is_typing(cursor):
        return unchanged
    seen = cursor.get("teach.form")
    cursor["teach.form"] = now = [desk.worker.status.model, desk.drafts.version, desk.worker.status.state == "idle"]
    if seen == now:
        return unchanged
    made = form_values(desk, keys)
    # A field is only redrawn if what it should hold has changed, so that nothing is taken from under a typing hand.
    before = cursor.get("teach.values", {})
    cursor["teach.values"] = after = {i: str(value) for i, value in enumerate(made)}
    return [gr.skip() if before.get(i) == after[i] else value for i, value in enumerate(made)]


def poll_buttons(desk: Desk, cursor: Cursor) -> list[Any]:
    """Which of start, stop and resume can be pressed.

    Sent each time, as it is next to nothing: a page that is still drawing the tab loses what comes meanwhile, and a
    button that stays grey is no small loss.
    """
    return [gr.update(interactive=value) for value in watching.can(desk)]


def publish(desk: Desk) -> None:
    """The endpoints that belong to this page."""
    from gradio.events import api

    def teach(
        name: str = "",
        method: Literal["sdft", "sft"] = "sdft",
        steps: int | None = None,
        learning_rate: float | None = None,
        settings: dict[str, dict[str, Any]] | None = None,
        on: str | None = None,
    ) -> str:
        """Teach the examples that are loaded; returns at once, and the teaching goes on by itself.

        Parameters:
            name: what the run is called; empty: named after the examples.
            method: sdft, or sft to compare with.
            steps: how long; null for what the Teach page shows.
            learning_rate: how strongly; null for what the Teach page shows.
            settings: any others by group and name, such as {"keep": {"keep_share": 0.3}}; see docs/settings.md.
            on: a finished run that is taught further; null for the model as it was loaded.

        Returns:
            The run's id: its name, which `/runs`, `/status` and `/compare` know it by.
        """
        return teach_by_api(desk, name, method, steps, learning_rate, settings, on)

    def stop() -> str:
        """Stop what is being taught within two seconds; its state is kept, and it can be resumed.

        Returns:
            What was going on: teaching, idle and so on.
        """
        try:
            return teaching.stop(desk)
        except WorkbenchError as error:
            raise gr.Error(str(error), print_exception=False) from error

    api(teach, api_name="teach")
    api(stop, api_name="stop", queue=False)


def teach_by_api(
    desk: Desk,
    name: str = "",
    method: str = "sdft",
    steps: int | None = None,
    learning_rate: float | None = None,
    settings: dict[str, dict[str, Any]] | None = None,
    on: str | None = None,
) -> str:
    """Begin with what was given, over what the page shows; a person who is filling in its form finds it as it was."""
    given = {(group, key): value for group, values in (settings or {}).items() for key, value in values.items()}
    given |= {} if steps is None else {("optim", "steps"): steps}
    given |= {} if learning_rate is None else {("optim", "lr"): learning_rate}
    try:
        if method not in ("sdft", "sft"):
            raise InputError(f"There is no method {method!r}.", "Choose sdft or sft.")
        choices = replace(desk.drafts.choices, method=method, on=on or None)
        return teaching.start(desk, name, teaching.with_values(desk, choices, given))
    except WorkbenchError as error:
        raise gr.Error(str(error), print_exception=False) from error
