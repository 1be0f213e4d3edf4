"""A run's state in sentences that a newcomer understands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from workbench.events import Evaluated, Event, RunEnded, Saved, Step
from workbench.views.meters import before, begun, known, latest
from workbench.views.text import percent

_WINDOW = 60
_MUCH = 0.1  # of what it knew
"""Events whose durations tell how long the rest will take."""


class Said(Protocol):
    """What the worker says of itself (`workbench.worker.Status`)."""

    @property
    def state(self) -> str: ...

    @property
    def run(self) -> str | None: ...

    @property
    def phase(self) -> str: ...


def step_of(events: Sequence[Event]) -> int:
    """The last step taken."""
    for event in reversed(events):
        if isinstance(event, Step | Evaluated | Saved | RunEnded):
            return event.step
    return 0


def steps_of(events: Sequence[Event]) -> int:
    """How many steps the run will have; 0 before it has said so."""
    first = begun(events)
    return 0 if first is None else first.steps


def is_finished(events: Sequence[Event]) -> bool:
    """Whether the run reached its last step."""
    return any(isinstance(e, RunEnded) for e in events[-3:])


def seconds_left(events: Sequence[Event]) -> float | None:
    """How long the rest of the run will take at the pace of late; None before the first steps."""
    recent = events[-_WINDOW:]
    steps = [e for e in recent if isinstance(e, Step)]
    if not steps:
        return None
    spent = sum(sum(e.seconds.values()) for e in steps)
    spent += sum(e.seconds for e in recent if isinstance(e, Evaluated))
    return spent / len(steps) * max(0, steps[-1].steps - steps[-1].step)


def duration(seconds: float) -> str:
    """`about 40 s`, `about 3 min`, `about 2 h 10 min`."""
    if seconds < 1:
        return "about 1 s"
    if seconds < 10:
        return f"about {round(seconds)} s"
    if seconds < 90:
        return f"about {round(seconds / 5) * 5} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes} min"
    return f"about {minutes // 60} h {minutes % 60} min" if minutes % 60 else f"about {minutes // 60} h"


def progress_sentence(events: Sequence[Event]) -> str:
    """`Step 84 of 200, about 40 s left`."""
    step, steps = step_of(events), steps_of(events)
    if not steps:
        return "Getting ready"
    left = seconds_left(events)
    rest = f", {duration(left)} left" if left is not None and step < steps else ""
    return f"Step {step} of {steps}{rest}"


def is_taught(run: str, status: Said | None) -> bool:
    """Whether the worker is teaching this run now."""
    return status is not None and status.run == run and status.state in ("teaching", "stopping")


def state_sentence(events: Sequence[Event], status: Said | None = None, run: str = "", elsewhere: bool = False) -> str:
    """What is going on with a run, and what to do next.

    Args:
        status: the worker's; None where there is none.
        run: the run's name, to tell whether the worker is about it.
        elsewhere: another process teaches it.
    """
    first = begun(events)
    name = run or ("" if first is None else first.run)
    if status is not None and is_taught(name, status):
        if status.state == "stopping":
            return f"Stopping: the state is being saved. {progress_sentence(events)}."
        phase = status.phase or "Teaching"
        return f"{phase}. {progress_sentence(events)}."
    if is_finished(events) and not steps_of(events):
        return "Imported, so nothing was measured here. Go on to Compare to ask it."
    if is_finished(events):
        said = (f"Finished after {step_of(events)} steps.", outcome_sentence(events), what_next(events))
        return " ".join(part for part in said if part)
    if elsewhere:
        return f"Being taught by another process. {progress_sentence(events)}."
    step, steps = step_of(events), steps_of(events)
    if not step:
        return "Stopped before the first step. Press Resume to begin."
    return f"Stopped at step {step} of {steps}; the state is kept. Press Resume to go on."


def ran_out(event: Step) -> str:
    """What happened in a step in which memory ran out, as a sentence."""
    counts = event.smaller or {}
    parts = [
        f"{counts[name]} {word} at a time"
        for name, word in (("at_once", "sampled"), ("micro_batch", "learned from"))
        if counts.get(name)
    ]
    return (
        f"Memory ran out in step {event.step}; it was taken again with answers {' and '.join(parts)}, and so are the "
        "steps after it. The result is the same up to rounding."
    )


def outcome_sentence(events: Sequence[Event]) -> str:
    """`Skill went from 0% to 93%; 97% of what it knew is still right.`"""
    skill, retention, step = latest(events)
    first = before(events)
    if not step:
        return ""
    parts = []
    if skill is not None:
        base = first.base if first is not None else None
        was = None if base is None else percent(base.value)
        start = "is" if was is None else "is still" if was == percent(skill.value) else f"went from {was} to"
        parts.append(f"Skill {start} {percent(skill.value)}")
    if retention is not None:
        parts.append(f"{percent(retention.value)} of {known(events)} is still right")
    return "; ".join(parts)[:1].upper() + "; ".join(parts)[1:] + "." if parts else ""


def what_next(events: Sequence[Event]) -> str:
    """What to do with a finished run: one that has learned nothing needs other settings, not to be asked."""
    skill, _, step = latest(events)
    first = before(events)
    base = None if first is None else first.base
    if step and skill is not None and base is not None and skill.good and base.good:
        return "It could do it before, so there was little to learn. Go on to Compare."
    if step and skill is not None and base is not None and skill.value <= base.value:
        fall = fall_of_retention(events)
        if fall is not None and fall[1] - fall[2] > _MUCH:
            return "It has not learned it and forgot much: teach less strongly, after a look at Check."
        return "It has not learned it: teach for more steps or more strongly, after a look at Check."
    return "Go on to Compare."


def fall_of_retention(events: Sequence[Event]) -> tuple[int, float, float, int] | None:
    """Where retention was best and how far it has fallen since.

    Returns:
        The step of the best measurement (0: before teaching), its share, the latest share and its step; None where
        retention was not measured.
    """
    measured = [(e.step, e.retention.value) for e in events if isinstance(e, Evaluated) and e.retention is not None]
    if not measured:
        return None
    best = (0, 1.0)
    for step, share in measured:
        if share >= best[1]:
            best = (step, share)
    return best[0], best[1], measured[-1][1], measured[-1][0]
