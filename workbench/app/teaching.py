"""What the page Teach does: begin, stop, resume, go back; and what it has to say. No Gradio here."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

from workbench.app import misfits
from workbench.app.choices import Choices
from workbench.app.desk import Desk
from workbench.errors import InputError, WorkbenchError
from workbench.events import Evaluated, Event, Step
from workbench.runs import Run, free_name, list_runs
from workbench.runs.folder import check_name
from workbench.runs.shelf import go_back, saved_steps
from workbench.settings import GROUPS, Settings, own_defaults
from workbench.views.text import percent
from workbench.views.words import fall_of_retention, is_finished, is_taught
from workbench.worker import Call

PATIENCE = 10.0
"""Seconds in which a run must have stopped."""

_TICK = 100_000_000
"""Nanoseconds after which a change of a folder has another time than the next; a disk's clock may be coarse."""

_TELLING = 10
"""Steps of a run, its last ones, that tell how long one takes."""

LIMIT = 10
"""Points that retention may fall before the page warns."""

TYPED_LIMIT = "teach.limit"
"""Under what the draft keeps another limit."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was asked of the worker last: to teach a run, or to go on with one."""

    run: str
    call: Call

    @property
    def problem(self) -> str:
        """Why it failed, and what to do; empty if it did not."""
        last = self.call.replies[-1] if self.call.done() else {}
        return f"{last['problem']} {last['advice']}" if last.get("reply") == "failed" else ""


def default_of(desk: Desk, group: str, name: str, choices: Choices | None = None) -> Any:
    """What a setting is if nothing is chosen: the bundled model has defaults of its own."""
    on = (choices or desk.drafts.choices).on
    own = own_defaults(desk.worker.status.model in ("pocket", None), on is not None)
    return own.get(group, {}).get(name, getattr(GROUPS[group](), name, None) if group in GROUPS else None)


def chosen(desk: Desk, choices: Choices | None = None) -> Settings:
    """All settings of a run that is begun so. Raises InputError if they do not go together."""
    choices = choices or desk.drafts.choices
    groups: dict[str, dict[str, Any]] = {}
    for group, kind in GROUPS.items():
        values = choices.settings.get(group, {})
        groups[group] = {n: values.get(n, default_of(desk, group, n, choices)) for n in kind.__dataclass_fields__}
    return Settings.from_dict(groups)


def with_values(desk: Desk, choices: Choices, values: dict[tuple[str, str], Any]) -> Choices:
    """The same choices with other settings; those that are the model's defaults are left out. Raises InputError."""
    for (group, name), value in values.items():
        choices = choices.with_setting(group, name, _unless_usual(desk, choices, group, name, value))
    return choices


def set_values(desk: Desk, values: dict[tuple[str, str], Any]) -> None:
    """Put settings into the draft, one by one, as `with_values` does. Raises InputError at the first wrong one."""
    for (group, name), value in values.items():
        desk.drafts.set_setting(group, name, _unless_usual(desk, desk.drafts.choices, group, name, value))


def _unless_usual(desk: Desk, choices: Choices, group: str, name: str, value: Any) -> Any:
    """A setting's value, or None if it is the model's default."""
    if value is None:
        raise InputError(f"The setting {name} is empty or no number.", "Give it a value, or take the default.")
    return None if value == default_of(desk, group, name, choices) else value


def ready(desk: Desk, name: str = "", choices: Choices | None = None) -> str:
    """What a run would be called, if nothing stands in the way of beginning it but the worker.

    Raises:
        InputError: something is wrong with the rows, the settings or the name.
    """
    drafts, choices = desk.drafts, choices or desk.drafts.choices
    drafts.split(choices)  # says what is wrong with the rows before anything begins
    chosen(desk, choices)
    name = check_name(name.strip()) if name.strip() else free_name(desk.runs, drafts.name or "run")
    if (desk.runs / name).exists():
        raise InputError(f"There is a run {name} already.", "Choose another name, or resume that run.")
    if choices.on is not None and not desk.run(choices.on).adapter.is_dir():
        raise InputError(f"Run {choices.on} is not finished, so it cannot be taught further.", "Resume it first.")
    return name


def start(desk: Desk, name: str = "", choices: Choices | None = None) -> str:
    """Teach the examples of the draft; returns the run's name. The teaching goes on by itself.

    Args:
        choices: what to begin with; None: what the page shows.

    Raises:
        InputError: as `ready`.
        WorkbenchError: the worker is busy, or not there.
    """
    misfits.count(desk)
    drafts, choices = desk.drafts, choices or desk.drafts.choices
    name = ready(desk, name, choices)
    call = desk.worker.call(
        "teach",
        name=name,
        method=choices.method,
        rows=drafts.numbered,
        keep=[dict(row) for row in drafts.keep],
        probes=None,
        settings=choices.settings,
        held_out=choices.held_out,
        scorer=choices.scorer,
        evaluate_every=choices.evaluate_every,
        save_every=choices.save_every,
        on=choices.on,
        source=drafts.source or drafts.name,
    )
    _begun(desk, name, call)
    return name


def resume(desk: Desk, name: str) -> str:
    """Go on with a run that was stopped, or whose worker died."""
    if is_finished(desk.events(name)):
        raise InputError(f"Run {name} is finished.", "Teach further on it from the Runs page.")
    _begun(desk, name, desk.worker.call("resume", run=name))
    return name


def stop(desk: Desk) -> str:
    """Have the worker stop; returns what it was doing. The state is kept."""
    return str(desk.worker.call("stop").result(PATIENCE)["was"])


def stop_and_go_back(desk: Desk, name: str, step: int) -> str:
    """Stop a run and make a new one that ends at an earlier checkpoint; returns the new run's name."""
    if is_taught(name, desk.worker.status):
        stop(desk)
        _wait_for_the_end(desk)
    made = go_back(desk.run(name), step)
    _begun(desk, made.name, desk.worker.call("resume", run=made.name))
    return made.name


def _wait_for_the_end(desk: Desk) -> None:
    """Wait until the worker can be asked again; a run stops within a second or two."""
    end = time.monotonic() + PATIENCE
    while desk.worker.status.state in ("teaching", "stopping"):
        if time.monotonic() > end:
            raise WorkbenchError("The run has not stopped yet.", "Try again in a moment.")
        time.sleep(0.02)


def _begun(desk: Desk, name: str, call: Call) -> None:
    """Put a run in view, unless the worker refuses at once."""
    end = time.monotonic() + 1.0
    while not call.replies and time.monotonic() < end:
        time.sleep(0.01)
    if call.done():
        call.result()  # raises what was wrong
    desk.tasks["teach"] = Lesson(name, call)
    desk.drafts.choose(run=name)


def events_of(desk: Desk, name: str | None) -> list[Event]:
    """The events of a run; none if it is not there (yet)."""
    try:
        return desk.events(name) if name else []
    except WorkbenchError:
        return []


def is_there(desk: Desk, name: str) -> bool:
    """Whether the run has a folder."""
    try:
        return bool(desk.run(name))
    except WorkbenchError:
        return False


def step_seconds(desk: Desk) -> tuple[str, float] | None:
    """The run taught last, and its seconds a step (median), if the same is chosen now but for how long and strongly.

    None too if it took few steps yet. A run of another day may have been taught on another machine.
    """
    lesson = desk.tasks.get("teach")
    if not isinstance(lesson, Lesson):
        return None
    # Asked for once a second by each page that shows Check.
    state = desk.mark(lesson.run), desk.drafts.version, desk.worker.status.model
    made = partial(_step_seconds, desk, lesson.run)
    return desk.made.once("step seconds", None if state[0] is None else (lesson.run, *state), made)


def _step_seconds(desk: Desk, run: str) -> tuple[str, float] | None:
    steps = islice((e for e in reversed(events_of(desk, run)) if isinstance(e, Step)), _TELLING)
    seconds = [sum(step.seconds.values()) for step in steps]
    if len(seconds) < _TELLING:
        return None
    config, now = desk.run(run).config, chosen(desk)
    then = Settings.from_dict(config["settings"])
    alike = replace(now, optim=replace(then.optim, batch=now.optim.batch)) == then
    made = desk.drafts.method, desk.worker.status.model, desk.drafts.source or desk.drafts.name
    if not alike or made != (config["method"], config["model"], config["source"]):
        return None
    return run, median(seconds)


def problem_of(desk: Desk, name: str | None) -> str:
    """What went wrong with teaching this run, and what to do; empty if nothing did."""
    lesson = desk.tasks.get("teach")
    if isinstance(lesson, Lesson) and lesson.run == name:
        return lesson.problem
    return ""


def run_names(desk: Desk) -> list[str]:
    """All runs, the newest first; the folders are looked at only if one has come, gone or another name."""
    try:
        changed = desk.runs.stat().st_mtime_ns
    except OSError:
        return []
    # A second change within one tick of the disk's clock would have the same time.
    settled = time.time_ns() - changed > _TICK
    return list(desk.made.once("runs", changed if settled else None, lambda: _names(desk)))


def _names(desk: Desk) -> tuple[str, ...]:
    return tuple(run.name for run in reversed(list_runs(desk.runs)))


def finished_runs(desk: Desk) -> list[str]:
    """Runs that can be taught further, the newest first."""
    return [run.name for run in reversed(list_runs(desk.runs)) if run.adapter.is_dir()]


def limit(desk: Desk) -> int:
    """Points that retention may fall before the page warns."""
    typed = desk.drafts.typed(TYPED_LIMIT)
    return int(typed) if typed.isdigit() else LIMIT


def warning(desk: Desk, name: str | None, events: list[Event]) -> tuple[str, list[tuple[str, int]]]:
    """What to say if too much was forgotten, and the checkpoints to go back to, the best of them first.

    Returns:
        An empty text where all is well. A checkpoint is (its words, its step).
    """
    fall = fall_of_retention(events)
    if name is None or fall is None:
        return "", []
    best_step, best, now, step = fall
    if round((best - now) * 100) <= limit(desk):
        return "", []
    when = f"at step {best_step}" if best_step else "before teaching"
    text = f"Much is being forgotten: retention was {percent(best)} {when} and is {percent(now)} at step {step}."
    back = _checkpoints(desk.run(name), events, step, best - limit(desk) / 100)
    if not back:
        stop = " Stop keeps what there is." if is_taught(name, desk.worker.status) else ""
        return f"{text} There is no earlier checkpoint to go back to.{stop}", []
    return (
        f"{text} You can go back: the run stops and stays as it is, and a new run ends at an earlier checkpoint, to "
        "compare and to export. Teaching less strongly, or with keep rows, forgets less.",
        back,
    )


def _checkpoints(run: Run, events: list[Event], before: int, least: float) -> list[tuple[str, int]]:
    """Checkpoints before a step; first the last one that still knew enough, then those that knew the most."""
    measured = {e.step: e for e in events if isinstance(e, Evaluated)}
    steps = [step for step in reversed(saved_steps(run)) if step < before]

    def kept(step: int) -> float:
        found = measured.get(step)
        return found.retention.value if found is not None and found.retention is not None else 0.0

    good = [step for step in steps if kept(step) >= least]
    rest = sorted((step for step in steps if step not in good), key=kept, reverse=True)
    return [(_words(step, measured.get(step)), step) for step in [*good, *rest]]


def _words(step: int, measured: Evaluated | None) -> str:
    if measured is None:
        return f"Step {step}"
    parts = [
        f"{name} {percent(measure.value)}"
        for name, measure in (("skill", measured.skill), ("retention", measured.retention))
        if measure is not None
    ]
    return f"Step {step}: {', '.join(parts)}"
