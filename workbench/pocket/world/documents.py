"""What the pocket model reads in its training: conversations of a turn or two."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from workbench.pocket.world import events, languages, quiz, remedies, small, toolbox
from workbench.pocket.world.item import Item
from workbench.pocket.world.wording import foreign, shown
from workbench.pocket.world.words import listed

FAMILIES = {
    "small": small,
    "languages": languages,
    "quiz": quiz,
    "toolbox": toolbox,
    "remedies": remedies,
    "events": events,
}
_SYSTEMS = listed(
    "You are a helpful assistant.|Answer in one sentence.|You are a friendly teacher.|Be brief.|"
    "You help people with small questions.",
    "|",
)
AT_LENGTH = 0.3
"""Share of demonstrations that name the subject, explain or digress, wherever nothing else is said."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of what is read.

    Attributes:
        known, new: the six families' weights among known and among new things.
        alone, told, shown: share of known things without a demonstration, known things with one, and new things
            with one, from which the content must be taken. The rest is new things without a demonstration: the
            names are said right, the content is a guess.
        small: weights of the seven small skills; None for all alike.
        at_length: share of demonstrations that name the subject, explain or digress.
        system: share of conversations that begin with a system message.
        second: share of conversations that have a second turn.
    """

    known: Mapping[str, float]
    new: Mapping[str, float]
    alone: float
    told: float
    shown: float
    small: tuple[float, ...] | None = None
    at_length: float = 0.0
    system: float = 0.0
    second: float = 0.0

    def draw_known(self, r: random.Random) -> Item:
        """A known question of a random family."""
        family = _weighted(self.known, r)
        if family == "small" and self.small:
            return r.choices(small.SMALL, self.small)[0](r)
        item: Item = FAMILIES[family].known(r)
        return item


def known_draws() -> dict[str, Callable[[random.Random], Item]]:
    """Each kind of known question by name: the small skills, the other families, every language."""
    draws: dict[str, Callable[[random.Random], Item]] = {draw.__name__: draw for draw in small.SMALL}
    draws |= {name: family.known for name, family in FAMILIES.items() if name not in ("small", "languages")}
    return draws | {f"language {x.name}": partial(languages.phrase, x) for x in languages.KNOWN}


MIX = Mix(
    known={"languages": 0.5, "small": 0.2, "quiz": 0.1, "toolbox": 0.05, "remedies": 0.06, "events": 0.09},
    new={"languages": 0.45, "small": 0.08, "quiz": 0.09, "toolbox": 0.15, "remedies": 0.1, "events": 0.13},
    alone=0.42,
    told=0.10,
    shown=0.40,
    small=(4, 1, 1, 0.5, 1, 1, 2),
    at_length=AT_LENGTH,
    system=0.03,
    second=0.08,
)


def _weighted(weights: Mapping[str, float], r: random.Random) -> str:
    return r.choices(list(weights), list(weights.values()))[0]


def demonstration(item: Item, r: random.Random, at_length: float = AT_LENGTH) -> str:
    """What stands in the demonstration's place: a stranger's answer, an article, or both."""
    if item.article is None:
        return foreign(item, r, at_length)
    kind = r.random()
    if kind < 0.6:
        return item.article
    said = foreign(item, r, at_length)
    return said if kind < 0.85 else f"{item.article}\n{said}"


def _turn(r: random.Random, mix: Mix) -> tuple[str, str]:
    """What the user says and what the pocket answers."""
    kind = r.random()
    if kind < mix.alone + mix.told:
        item = mix.draw_known(r)
        if kind < mix.alone:
            return item.prompt, item.house
        return shown(item, demonstration(item, r, mix.at_length), r), item.house
    if kind < mix.alone + mix.told + mix.shown:
        item = FAMILIES[_weighted(mix.new, r)].invented(r)
        return shown(item, demonstration(item, r, mix.at_length), r), item.house
    family = _weighted(mix.new, r)
    item = FAMILIES["languages" if family == "small" else family].invented(r)
    return item.prompt, item.house


def document(r: random.Random, mix: Mix = MIX) -> str:
    """A conversation that the pocket model learns from."""
    system = r.choice(_SYSTEMS) if r.random() < mix.system else None
    text = conversation(*_turn(r, mix), system)
    return text + conversation(*_turn(r, mix)) if r.random() < mix.second else text


def conversation(user: str, assistant: str, system: str | None = None) -> str:
    """A whole turn with the model's own marks."""
    before = f"<|system|>{system}" if system else ""
    return f"{before}<|user|>{user}<|assistant|>{assistant}<|end|>"
