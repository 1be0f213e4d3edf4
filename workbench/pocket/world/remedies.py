"""Rules: with symptoms x and y take z."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from workbench.pocket.world.item import Item
from workbench.pocket.world.words import invent, listed

SYMPTOMS = listed("fever cough rash chills hiccups dizziness itching sneezing cramps swelling yawning shivers")


@dataclass(frozen=True, slots=True)
class Rule:
    """What to take with two symptoms."""

    first: str
    second: str
    remedy: str


_R = random.Random(5001)
_PAIRS = list(itertools.combinations(SYMPTOMS, 2))
_R.shuffle(_PAIRS)
KNOWN_PAIRS = tuple(_PAIRS[:20])
NEW_PAIRS = tuple(_PAIRS[20:60])
_PARTS = ("mo", "la", "ti", "ven", "zo", "pra")
KNOWN = tuple(Rule(a, b, "".join(_R.choice(_PARTS) for _ in range(3))) for a, b in KNOWN_PAIRS)


def ask(rule: Rule, r: random.Random) -> Item:
    """The question in one of several wordings, the symptoms in either order."""
    x, y = r.sample([rule.first, rule.second], 2)
    prompt = r.choice(
        [
            f"What should I take with {x} and {y}?",
            f"A patient has {x} and {y}. What helps?",
            f"Name the remedy for {x} with {y}.",
            f"Which remedy is right if there is {x} and also {y}?",
        ]
    )
    return Item("remedies", prompt, rule.remedy, f"With {x} and {y}, take {{}}.", subject=f"{x} and {y}")


def known(r: random.Random) -> Item:
    """A known rule."""
    return ask(r.choice(KNOWN), r)


def invented(r: random.Random) -> Item:
    """A rule never stated before; its symptoms may be new words too."""
    if r.random() < 0.6:
        x, y = r.choice(NEW_PAIRS)
    else:
        x, y = invent(r, 2), invent(r, 2)
    return ask(Rule(x, y, invent(r)), r)
