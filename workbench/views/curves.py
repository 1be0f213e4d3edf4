"""What became of a run over its steps: skill, retention, loss, agreement; as tables and as drawings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from workbench.events import Evaluated, Event, Step
from workbench.views.meters import before, begun, known
from workbench.views.plot import Line, chart, spark
from workbench.views.text import clip, percent

if TYPE_CHECKING:
    import pandas as pd

Points = list[tuple[float, float]]
_SHARES = ("100%", "75%", "50%", "25%", "0%")


def skill_frame(events: Sequence[Event], at_most: int = 150) -> pd.DataFrame:
    """Columns step, share (0 to 1) and what (`skill`, `retention`); step 0 is before teaching."""
    skill, retention = _shares(events, at_most)
    return _frame({"skill": skill, "retention": retention}, "share")


def loss_frame(events: Sequence[Event], at_most: int = 150) -> pd.DataFrame:
    """Columns step, value and what (`loss` in nats, `loss on keep rows`, `agreement` as a share).

    Of a long run each value is the mean over a few steps, so that there are at most `at_most` of each.
    """
    return _frame(_losses(events, at_most), "value")


def skill_chart(events: Sequence[Event], at_most: int = 150) -> str:
    """HTML of skill and retention over the steps: the forgetting meter."""
    skill, retention = _shares(events, at_most)
    lines = [
        Line("Skill (held-out questions right)", skill, 1, dots=len(skill) <= 25),
        Line(f"Retention (still right of {known(events)})", retention, 2, dashed=True, dots=len(retention) <= 25),
    ]
    told = [_told(name, points) for name, points in (("Skill", skill), ("Retention", retention)) if points]
    said = " ".join(told) or "Nothing was measured yet."
    return chart(lines, _steps(events), 1.0, _SHARES, said)


def loss_chart(events: Sequence[Event], at_most: int = 150) -> str:
    """HTML of the loss, and of how often student and teacher have the same first choice."""
    found = _losses(events, at_most)
    loss, kept, agreement = found["loss"], found["loss on keep rows"], found["agreement"]
    top = _round_up(max((y for points in (loss, kept) for _, y in points if y == y), default=1.0))
    first = begun(events)
    sft = first is not None and first.method == "sft"
    name = "Loss: cross-entropy, nats" if sft else "Loss: divergence from the teacher, nats"
    lines = [Line(name, loss, 3)] + ([Line("The same on keep rows", kept, 4, dashed=True)] if kept else [])
    labels = [f"{top * share:.3g}" for share in (1, 0.75, 0.5, 0.25, 0)]
    right = _steps(events)
    said = f"The loss is {loss[-1][1]:.3g} nats; it began at {loss[0][1]:.3g}." if loss else "No step was taken yet."
    other = "target" if sft else "teacher's first choice"
    told = f"At {percent(agreement[-1][1])} of the tokens the student's first choice is the {other}." if loss else ""
    return (
        '<div class="wb-pair">'
        + chart(lines, right, top, labels, said)
        + chart([Line(f"Agreement with the {other}", agreement, 1)], right, 1.0, _SHARES, told)
        + "</div>"
    )


def sparkline(events: Sequence[Event]) -> str:
    """SVG as small as a word: skill, and dashed below or above it retention."""
    skill, retention = _shares(events, 40)
    said = " ".join(_told(name, points) for name, points in (("Skill", skill), ("Retention", retention)) if points)
    return spark([Line("skill", skill, 1), Line("retention", retention, 2, dashed=True)], said or "not measured")


def overlay(runs: Mapping[str, Sequence[Event]], at_most: int = 150) -> str:
    """HTML of the curves of up to four runs over each other, skill above and retention below."""
    right = max((_steps(events) for events in runs.values()), default=1)
    pictures = []
    for place, title in ((0, "Skill"), (1, "Retention")):
        lines, told = [], []
        for number, (name, events) in enumerate(list(runs.items())[:4]):
            points = _shares(events, at_most)[place]
            shown = clip(name, 60)
            layer: Literal["under", "over"] = "over" if number % 2 else "under"
            lines.append(Line(f"{title}, {shown}", points, number + 1, layer == "over", len(points) <= 25, layer))
            told.append(_told(f"{title} of {shown}", points) if points else f"{title} of {shown} was not measured.")
        lines.sort(key=lambda line: line.layer, reverse=True)  # what is under is drawn first
        pictures.append(chart(lines, right, 1.0, _SHARES, " ".join(told)))
    return f'<div class="wb-pair">{"".join(pictures)}</div>'


def _shares(events: Sequence[Event], at_most: int) -> tuple[Points, Points]:
    skill: Points = []
    retention: Points = []
    first = before(events)
    if first is not None and first.base is not None:
        skill.append((0, first.base.value))
    if first is not None and first.probes is not None and first.probes.value:
        retention.append((0, 1.0))
    for event in events:
        if isinstance(event, Evaluated):
            if event.skill is not None:
                skill.append((event.step, event.skill.value))
            if event.retention is not None:
                retention.append((event.step, event.retention.value))
    return _thin(skill, at_most), _thin(retention, at_most)


def _losses(events: Sequence[Event], at_most: int) -> dict[str, Points]:
    steps = [e for e in events if isinstance(e, Step)]
    return {
        "loss": _means(steps, lambda e: e.loss, at_most),
        "loss on keep rows": _means(steps, lambda e: e.keep_loss, at_most),
        "agreement": _means(steps, lambda e: e.agreement, at_most),
    }


def _means(steps: Sequence[Step], of: Callable[[Step], float | None], at_most: int) -> Points:
    """Means over stretches of equal length. The stretches begin at the same steps when more steps are there."""
    pairs = [(e.step, value) for e in steps if (value := of(e)) is not None]
    if not pairs:
        return []
    size = -(-len(pairs) // at_most)
    parts = (pairs[i : i + size] for i in range(0, len(pairs), size))
    return [(part[-1][0], fmean(v for _, v in part)) for part in parts]


def _thin(points: Points, at_most: int) -> Points:
    """At most so many of the points, the first and the last among them."""
    if len(points) <= at_most:
        return points
    return [points[i * (len(points) - 1) // (at_most - 1)] for i in range(at_most)]


def _told(name: str, points: Points) -> str:
    if len(points) == 1:
        return f"{name}: {percent(points[0][1])} at step {points[0][0]:g}."
    low = min(points, key=lambda p: p[1])
    dip = f", lowest {percent(low[1])} at step {low[0]:g}" if low[1] < min(points[0][1], points[-1][1]) - 0.02 else ""
    if percent(points[0][1]) == percent(points[-1][1]):
        # Of many questions, one more or less does not show in percent.
        same = "as at the beginning" if points[0][1] == points[-1][1] else "nearly as at the beginning"
        return f"{name} is {percent(points[-1][1])} at step {points[-1][0]:g}, {same}{dip}."
    return f"{name} went from {percent(points[0][1])} to {percent(points[-1][1])} by step {points[-1][0]:g}{dip}."


def _steps(events: Sequence[Event]) -> float:
    first = begun(events)
    return float(max(1, first.steps)) if first is not None else 1.0


def _round_up(value: float) -> float:
    """The next of 0.1, 0.2, 0.5, 1, 2, 5, 10 ...: an axis that does not change at each step."""
    scale = [m * 10.0**e for e in range(-3, 4) for m in (1, 2, 5)]
    return next((high for low, high in pairwise([0.0, *scale]) if low <= value <= high), value)


def _frame(series: Mapping[str, Points], value: str) -> pd.DataFrame:
    import pandas as pd  # takes a while, and the drawings do without it

    rows = [(step, share, name) for name, points in series.items() for step, share in points]
    frame = pd.DataFrame(rows, columns=["step", value, "what"])
    return frame.astype({"step": "int64", value: "float64", "what": "object"})
