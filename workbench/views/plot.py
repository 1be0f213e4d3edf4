"""A small line chart as HTML: the curves stretch with the page, the words do not, and dark mode is a matter of CSS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.views.text import escape

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 1000, 200


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        colour: 1 to 4.
        dashed: so that two curves differ without their colour, too.
        dots: a dot at each point, where these are few.
        layer: of two curves that may lie on each other, the dots of `under` are broad and those of `over` small; with
            dashes over a whole line, both are seen, also without their colours.
    """

    name: str
    points: Points
    colour: int = 1
    dashed: bool = False
    dots: bool = False
    layer: Literal["", "under", "over"] = ""

    @property
    def style(self) -> str:
        """The classes of the curve."""
        return f"wb-l wb-c{self.colour}" + " wb-dash" * self.dashed


def chart(
    lines: Sequence[Line],
    right: float,
    top: float,
    y: Sequence[str],
    said: str,
    x: Sequence[str] = (),
) -> str:
    """HTML of curves from 0 to `right` and from 0 to `top`.

    Args:
        y: labels of the vertical axis, from the top down; there is a grid line at each.
        said: what there is to see, in words.
        x: labels below; by default 0, the middle and the end.
    """
    x = x or ("0", f"{right / 2:g}", f"step {right:g}")
    rules = "".join(_rule(i * _HEIGHT / (len(y) - 1)) for i in range(len(y)))
    drawn = "".join(_line(line, right, top) for line in lines)
    return (
        f'<div class="wb wb-plot"><div class="wb-keys">{"".join(map(_key, lines))}</div><div class="wb-chart">'
        f'<div class="wb-y" aria-hidden="true">{"".join(f"<span>{escape(text)}</span>" for text in y)}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(said)}">'
        f'{rules}{drawn}</svg><div class="wb-x" aria-hidden="true">'
        f"{''.join(f'<span>{escape(text)}</span>' for text in x)}</div></div>"
        f'<p class="wb-say">{escape(said)}</p></div>'
    )


def spark(lines: Sequence[Line], said: str) -> str:
    """SVG of a curve as small as a word; all values are shares, the steps fill the width."""
    right = max((x for line in lines for x, _ in line.points), default=0) or 1
    return (
        f'<svg class="wb-spark" viewBox="0 -8 {_WIDTH} {_HEIGHT + 16}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(said)}">{_rule(_HEIGHT)}{"".join(_line(line, right, 1.0) for line in lines)}</svg>'
    )


def _line(line: Line, right: float, top: float) -> str:
    places = [
        f"{x / right * _WIDTH:.0f},{(1 - min(max(y, 0.0), top) / top) * _HEIGHT:.0f}"
        for x, y in line.points
        if y == y  # a loss that is no number leaves a gap
    ]
    if not places:
        return ""
    points = " ".join(places)
    drawn = f'<polyline class="{line.style}" points="{points}"/>'
    if line.dots or len(places) == 1:
        # Lines without length and with round ends: they stay round however the drawing is stretched.
        dots = "".join(f"M{p}h0" for p in places)
        layer = f" wb-{line.layer}" if line.layer else ""
        drawn += f'<path class="wb-dots{layer} wb-c{line.colour}" d="{dots}"/>'
    return drawn


def _rule(y: float) -> str:
    return f'<path class="wb-grid" d="M0 {y:.0f}H{_WIDTH}"/>'


def _key(line: Line) -> str:
    return (
        f'<span><svg viewBox="0 0 32 10" aria-hidden="true"><path class="{line.style}" d="M2 5H30"/></svg>'
        f"{escape(line.name)}</span>"
    )
