"""What is entered in the form of the page Teach: put into the draft, or said to be wrong beside its field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gradio as gr

from workbench.app import fields, teaching
from workbench.app.choices import Choices
from workbench.app.desk import LATEST, Cursor, Desk
from workbench.app.fields import Key
from workbench.app.notes import note, wrong
from workbench.errors import InputError, WorkbenchError
from workbench.views.text import clip

PLAIN = "The model as it was loaded"

_HAND = "chosen.teach.hand"
_STILL = 2
"""Polls after which a hand is taken to type no more."""

_WRONG = "chosen.teach.wrong"
"""What is wrong with what stands in the fields, by the place where it is said and the field."""


def follow(setter: Callable[..., None], entered: Sequence[Any], cursor: gr.State, place: gr.HTML) -> None:
    """Have `setter` take what is typed into these fields; what is wrong with it is said at `place`."""
    key = str(place.elem_id)
    for field in entered:
        field.input(partial(enter, setter, key), [cursor, *entered], place, **LATEST)


def enter(setter: Callable[..., None], place: str, cursor: Cursor, *values: Any) -> str:
    """Call a setter with what is being entered; all that is wrong with what is said at `place`, as HTML."""
    cursor[_HAND] = _STILL  # first: a poll between the two would give the field what is being typed over
    said = told(setter, *values)
    wrongs: dict[str, dict[Any, str]] = cursor.setdefault(_WRONG, {})
    here = wrongs.setdefault(place, {})
    # A field is known by its setter: what one of them takes does not mend another.
    here.pop(setter, None)
    if said:
        here[setter] = said
    return "".join(here.values())


def is_typing(cursor: Cursor) -> bool:
    """Whether something is being entered just now: asked once at each poll."""
    still = int(cursor.get(_HAND, 0))
    if still:
        cursor[_HAND] = still - 1
    return bool(still)


def told(setter: Callable[..., None], *values: Any) -> str:
    """Call a setter; what is wrong with its values, as HTML."""
    try:
        setter(*values)
    except WorkbenchError as error:
        return wrong(error)
    return ""


def put(desk: Desk, values: dict[Key, Any]) -> None:
    """Put settings into the draft; what is wrong with one is said in the words of this page."""
    for key, value in values.items():
        try:
            teaching.set_values(desk, {key: value})
        except InputError as error:
            flag, label = f"--{key[1].replace('_', '-')} ", f"{fields.label_of(key[1])} "
            if not error.problem.startswith(flag):
                raise
            raise InputError(error.problem.replace(flag, label, 1), "What it does stands beside its field.") from error


def set_one(desk: Desk, key: Key, value: Any) -> None:
    """Choose one of the settings."""
    put(desk, {key: value})


def set_rate(desk: Desk, text: Any) -> None:
    """Choose the learning rate: one of the list in words, or a number."""
    try:
        rate = float(str(text).split("(")[-1].rstrip(") ").replace(",", "."))  # as many write it
    except ValueError:
        said = f"{clip(str(text), 60)!r} is no learning rate."
        raise InputError(said, "Choose one of the list, or type a number.") from None
    put(desk, {("optim", "lr"): rate})


def set_keep(desk: Desk, keep: bool, share: float) -> None:
    """Use keep rows or not, and how many; without any there is nothing to choose."""
    if desk.drafts.keep:
        put(desk, {("keep", "keep_share"): round(float(share), 3) if keep else 0.0})


def set_every(desk: Desk, every: Any, save: Any) -> None:
    """How often to measure and to save."""
    if not all(isinstance(v, int | float) and v >= 1 for v in (every, save)):
        raise InputError("Measuring and saving need a number of steps of 1 or more.", "50 is usual.")
    desk.drafts.choose(evaluate_every=int(every), save_every=int(save))


def set_limit(desk: Desk, points: Any) -> None:
    """How many points retention may fall before the page warns."""
    if not isinstance(points, int | float) or not 0 <= points <= 100:
        raise InputError("Retention can fall by 0 to 100 points.", f"{teaching.LIMIT} is usual.")
    desk.drafts.type(teaching.TYPED_LIMIT, str(int(points)))


def set_on(desk: Desk, on: str | None) -> None:
    """What the teaching starts from."""
    desk.drafts.choose(on=None if on in (None, "", PLAIN) else on)


def as_usual(desk: Desk, cursor: Cursor) -> str:
    """The button Back to the usual settings; what they were is said, so that they can be entered again."""
    cursor.pop(_WRONG, None)
    cursor.pop(_HAND, None)
    choices, usual = desk.drafts.choices, Choices({})
    was = [
        f"{fields.label_of(name)} {clip(str(value), 60)}"
        for values in choices.settings.values()
        for name, value in values.items()
    ]
    every = ("evaluate_every", "Measure every"), ("save_every", "Save a checkpoint every")
    was += [f"{words} {getattr(choices, n)}" for n, words in every if getattr(choices, n) != getattr(usual, n)]
    desk.drafts.choose(settings={}, **{name: getattr(usual, name) for name, _ in every})
    desk.drafts.type(teaching.TYPED_LIMIT, "")
    if not was:
        return note("All settings are as usual.", "info")
    return note(f"All settings are as usual again. These were others: {'; '.join(was)}.", "info")
