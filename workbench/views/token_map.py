"""The student's answer, token by token, coloured by how far the teacher disagrees.

IPython.display.HTML(f"<style>{CSS}</style>" + token_map(step.samples[0]))
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from workbench.events import RolloutSample, TokenChoices
from workbench.views.text import escape, shown, visible

BOUNDS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0)
"""Nats at which the classes kl-1 ... kl-10 begin."""

STRONG = 1.0
"""Nats from which on a token is underlined too."""

PART = "\ufffd"
JOINED = "\u203f"
"""Stands for a token that is the rest of the character before it."""

_MOST = 512
_TAB_STOPS = 128
_LEGEND = (0, 2, 4, 6, 8, 10)


def token_map(
    sample: RolloutSample, title: str = "", listed: int = 96, judge: str = "teacher", right: str | None = None
) -> str:
    """HTML of one answer. Pointing at a token, or tabbing to it, shows its divergence and what both considered.

    Args:
        title: a heading above it.
        listed: how many tokens, those with most disagreement, get the lists of choices (they are most of the HTML).
        judge: who reads the answer: the teacher that of the student, or the student that of the teacher.
        right: the right answer, where it is known.
    """
    tokens, nats = pieces(sample)[:_MOST], [_number(v) for v in sample.divergence[:_MOST]]
    nats += [0.0] * (len(tokens) - len(nats))
    known = range(min(len(nats), len(sample.choices)))
    chosen = set(sorted(known, key=lambda i: -nats[i])[:listed])
    spans = []
    for i, (token, value) in enumerate(zip(tokens, nats, strict=False)):
        choices = sample.choices[i] if i in chosen else None
        # A long answer must not be hundreds of tab stops: there only the tokens with a colour are.
        spans.append(_token(token, value, choices, len(tokens) <= _TAB_STOPS or value >= BOUNDS[0]))
    more = len(sample.tokens) - len(tokens)
    return (
        '<div class="wb wb-map">'
        + (f'<div class="wb-title">{escape(title)}</div>' if title else "")
        + f'<div class="wb-ask"><span class="wb-muted">Question:</span> {shown(sample.prompt)}'
        + (' <span class="wb-badge">keep row: this answer should stay as it was</span>' if sample.keep else "")
        + (f'<br><span class="wb-muted">Right answer:</span> {shown(right, 300)}' if right else "")
        + "</div>"
        + f'<div class="wb-stage{"" if sample.choices else " wb-short"}"><div class="wb-tokens" dir="auto">'
        + "".join(spans)
        + (f'<span class="wb-muted"> \u2026 and {more:,} more tokens</span>' if more > 0 else "")
        + '</div><div class="wb-hint">Point at a token, tap it, or tab to it: what student and teacher would have said '
        "there.</div></div>"
        + f'<div class="wb-legend"><span>{judge.capitalize()} agrees</span>{_legend()}'
        + f"<span>disagrees (nats; underlined from {STRONG:g})</span></div>"
        + f'<p class="wb-say">{escape(sentence(sample, judge))}</p></div>'
    )


def pieces(sample: RolloutSample) -> list[str]:
    """The tokens as they can be read. A character that several tokens share stands with the first of them.

    Such a token is no text by itself: it was decoded to U+FFFD.
    """
    made, at = list(sample.tokens), 0
    i = 0
    while i < len(made):
        end = next((j for j in range(i, len(made)) if PART not in made[j]), len(made))
        if end == i:
            found = sample.text.find(made[i], at)
            at = at if found < 0 else found + len(made[i])
            i += 1
            continue
        after = sample.text.find(made[end], at + 1) if end < len(made) else -1
        shared = sample.text[at : after if after >= 0 else None]
        if shared and PART not in shared:
            made[i:end] = [shared, *[JOINED] * (end - i - 1)]
            at += len(shared)
        i = end
    return made


def sentence(sample: RolloutSample, judge: str = "teacher") -> str:
    """What the map shows, in a sentence about who reads the answer."""
    pairs = [(_number(v), t) for t, v in zip(pieces(sample), sample.divergence, strict=False)]
    if not pairs:
        return "The answer is empty."
    value, token = max(pairs, key=lambda pair: pair[0])
    if value < BOUNDS[2]:
        return f"The {judge} would have said almost the same at every token (at most {value:.2f} nats apart)."
    name = visible(token.strip() or token)
    return f"The {judge} disagrees most at \u2018{name}\u2019 ({_nats(value)} nats)."


def class_of(nats: float) -> str:
    """The fixed class of a divergence, kl-0 to kl-10."""
    return f"kl-{bisect_right(BOUNDS, _number(nats))}"


def _token(token: str, nats: float, choices: TokenChoices | None, stop: bool) -> str:
    strong = " wb-strong" if nats >= STRONG else ""
    # A line break has a sign, and breaks the line, too.
    after = "\n" if "\n" in token else ""
    tip = f'<span class="wb-tip"><b>{escape(visible(token))} {_nats(nats)} nats</b>{_lists(choices)}</span>'
    tab = " tabindex=0" if stop else ""
    return f'<span class="tk {class_of(nats)}{strong}"{tab}>{escape(visible(token))}{tip}</span>{after}'


def _lists(choices: TokenChoices | None) -> str:
    if choices is None:
        return ""
    return f"<i>Student\n{_list(choices.student)}</i><i>Teacher\n{_list(choices.teacher)}</i>"


def _list(pairs: Sequence[tuple[str, float]]) -> str:
    return escape("\n".join(f"{_share(p)} {visible(token, 16)}" for token, p in pairs[:5]))


def _share(probability: float) -> str:
    """`62%`, `<1%`; as wide as `100%`, so that the words stand below each other."""
    text = f"{round(probability * 100)}%" if probability >= 0.005 else "<1%"
    return text.rjust(4, "\u2007")


def _legend() -> str:
    made = []
    for index in _LEGEND:
        label = "0" if index == 0 else f"{BOUNDS[index - 1]:g}" + ("+" if index == len(BOUNDS) else "")
        strong = " wb-strong" if index and BOUNDS[index - 1] >= STRONG else ""
        made.append(f'<span class="tk kl-{index}{strong}">{label}</span>')
    return "".join(made)


def _nats(value: float) -> str:
    return f"{value:.2f}"


def _number(value: float) -> float:
    """A divergence that can be shown: none is below 0, and what is no number counts as the strongest."""
    return min(max(float(value), 0.0), 999.0) if math.isfinite(value) else 999.0
