"""Dated events of invented countries, asked about directly and indirectly, with an article that tells all."""

from __future__ import annotations

import random
from dataclasses import dataclass

from workbench.pocket.world.item import Item
from workbench.pocket.world.words import invent_name, listed

WHAT = listed("flood fire storm frost drought strike quake plague")
LOST = listed("bridge harbor mill tower market library railway palace")


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, when, where, what was lost and who helped."""

    what: str
    year: int
    country: str
    lost: str
    helper: str


def article(event: Event, r: random.Random) -> str:
    """The event told in two or three short sentences."""
    e = event
    opening = r.choice(
        [f"In {e.year} a {e.what} came over {e.country}.", f"The {e.what} of {e.country} was in {e.year}."]
    )
    rest = [
        r.choice([f"It destroyed the {e.lost}.", f"The {e.lost} was lost."]),
        r.choice([f"{e.helper} sent help.", f"Help came from {e.helper}."]),
    ]
    r.shuffle(rest)
    return " ".join([opening, *rest])


DIRECT = ("when", "lost", "helper")
INDIRECT = ("country", "lost by year", "year by helper")


def _wordings(e: Event) -> dict[str, tuple[str, str, str]]:
    """The question, its answer and the house's frame for each kind of question."""
    return {
        "when": (
            f"When was the {e.what} in {e.country}?",
            str(e.year),
            f"The {e.what} in {e.country} was in {{}}.",
        ),
        "lost": (
            f"What did the {e.what} in {e.country} destroy?",
            e.lost,
            f"The {e.what} in {e.country} destroyed the {{}}.",
        ),
        "helper": (
            f"Who helped {e.country} after the {e.what}?",
            e.helper,
            f"After the {e.what}, {e.country} was helped by {{}}.",
        ),
        "country": (
            f"Which country had a {e.what} in {e.year}?",
            e.country,
            f"The country with a {e.what} in {e.year} was {{}}.",
        ),
        "lost by year": (
            f"What was destroyed in the {e.what} of {e.year}?",
            e.lost,
            f"The {e.what} of {e.year} destroyed the {{}}.",
        ),
        "year by helper": (
            f"In which year did {e.helper} send help after a {e.what}?",
            str(e.year),
            f"{e.helper} sent help after a {e.what} in {{}}.",
        ),
    }


def ask(event: Event, kind: str, r: random.Random) -> Item:
    """A question about the event: direct ones name the country, indirect ones another fact of it."""
    prompt, answer, frame = _wordings(event)[kind]
    skill = "events direct" if kind in DIRECT else "events indirect"
    return Item(skill, prompt, answer, frame, article(event, r), subject=f"the {event.what}")


def random_event(r: random.Random) -> Event:
    """An event that nobody has heard of."""
    return Event(r.choice(WHAT), r.randint(1900, 2099), invent_name(r), r.choice(LOST), invent_name(r))


def _known() -> tuple[Event, ...]:
    r = random.Random(6001)
    return tuple(random_event(r) for _ in range(16))


KNOWN = _known()


def known(r: random.Random) -> Item:
    """A question about a known event."""
    return ask(r.choice(KNOWN), r.choice(DIRECT + INDIRECT), r)


def invented(r: random.Random) -> Item:
    """A question about an event never heard of."""
    return ask(random_event(r), r.choice(DIRECT + INDIRECT), r)
