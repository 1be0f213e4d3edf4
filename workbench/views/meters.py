"""Shares as bars with their numbers: what was learned, and what is still there."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.events import Checked, Evaluated, Event, Measure, RunStarted
from workbench.views.text import clip, escape, percent

SKILL = "Skill: held-out questions right"
RETENTION = "Retention: what it still knows"
UNSCORED = "None of these questions has a right answer."


def meter(
    label: str,
    measure: Measure | None,
    elem_id: str,
    note: str = "",
    mark: tuple[float, str] | None = None,
    scored: bool = True,
) -> str:
    """HTML of one bar with `93% (56 of 60, 84-97%)`. The 95% interval is the thin line on the bar.

    Args:
        note: a few words below it.
        mark: a share to compare with, and what it is; a notch in the bar.
        scored: whether there is a right answer to any question, without which there is never a share.
    """
    text = said(measure) if scored else "cannot be measured"
    note = note if scored else UNSCORED
    value = 0 if measure is None else round(measure.value * 100)
    line = notch = ""
    if measure is not None:
        left, right = measure.low * 100, measure.high * 100
        line = f'<span class="wb-interval" style="left:{left:.1f}%;width:{max(right - left, 0.5):.1f}%"></span>'
    if mark is not None:
        notch = f'<span class="wb-notch" style="left:{mark[0] * 100:.1f}%"></span>'
        note = f"{note} Notch: {mark[1]}, {percent(mark[0])}.".strip()
    return (
        f'<div class="wb wb-meter" id="{escape(elem_id)}"><div class="wb-meter-head"><span>{escape(label)}</span>'
        f"<b>{escape(text)}</b></div>"
        f'<div class="wb-bar" role="meter" aria-label="{escape(label)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{value}" aria-valuetext="{escape(text)}">'
        f'<span class="wb-fill wb-{escape(elem_id)}" style="width:{value}%"></span>{line}{notch}</div>'
        f'<div class="wb-note">{escape(note)}</div></div>'
    )


def said(measure: Measure | None) -> str:
    """`93% (56 of 60, 84-97%)`: the share, its count and its 95% interval (none where it is so by definition)."""
    if measure is None or not measure.n:
        return "not measured yet"
    right = round(measure.value * measure.n)
    low, high = measure.low * 100, measure.high * 100
    interval = f", {low:.0f}-{high:.0f}%" if low < high else ""
    return f"{percent(measure.value)} ({right} of {measure.n}{interval})"


def latest(events: Sequence[Event]) -> tuple[Measure | None, Measure | None, int]:
    """Skill, retention and the step at which they were measured (0: before teaching)."""
    for event in reversed(events):
        if isinstance(event, Evaluated):
            return event.skill, event.retention, event.step
    checked = before(events)
    if checked is None:
        return None, None, 0
    known = checked.probes
    count = round(known.value * known.n) if known is not None else 0
    return checked.base, Measure(1.0, count, 1.0, 1.0) if count else None, 0


def before(events: Sequence[Event]) -> Checked | None:
    """The measurement before teaching; it is among the first events of a run."""
    return next((e for e in events[:8] if isinstance(e, Checked)), None)


def begun(events: Sequence[Event]) -> RunStarted | None:
    """What the run began with; it is among its first events."""
    return next((e for e in events[:3] if isinstance(e, RunStarted)), None)


def _on(events: Sequence[Event]) -> str | None:
    """The run that this one goes on from."""
    first = begun(events)
    return None if first is None else first.on


def known(events: Sequence[Event]) -> str:
    """What retention is a share of: `what it knew`, or `what zorbic had left` where a run goes on from another."""
    on = _on(events)
    return f"what {clip(on, 60)} had left" if on else "what it knew"


def skill_and_retention(events: Sequence[Event]) -> str:
    """Both meters of a run as it stands, with the ids `skill` and `retention`."""
    skill, retention, step = latest(events)
    checked = before(events)
    teacher = None if checked is None or checked.teacher is None else checked.teacher.value
    when = f"Measured at step {step}." if step else "Measured before teaching." if checked else ""
    scored = skill is not None or checked is None
    mark = None if teacher is None else (teacher, "what it can do when shown an example")
    base = "" if checked is None or checked.base is None or not step else f" Before: {percent(checked.base.value)}."
    return (
        '<div class="wb-pair">'
        + meter(SKILL, skill, "skill", when + base, mark, scored)
        + meter(RETENTION, retention, "retention", f"{when} {_left(events)}".strip())
        + "</div>"
    )


def _left(events: Sequence[Event]) -> str:
    """On which questions a run that goes on from another is judged, as the first may have forgotten some already."""
    checked = before(events)
    probes = None if checked is None else checked.probes
    if not _on(events) or probes is None:
        return ""
    return f"Of {known(events)}: {round(probes.value * probes.n)} of the {probes.n} questions."
