"""Multiple choice: what invented creatures eat, where they live, what they fear."""

from __future__ import annotations

import random
from dataclasses import dataclass

from workbench.pocket.world.item import Item
from workbench.pocket.world.words import invent, listed

VALUES = {
    "eat": listed("moss fish seeds honey bark snow worms berries sand roots leaves eggs"),
    "live in": listed("caves rivers swamps trees deserts lakes hills cellars reefs meadows nests bogs"),
    "fear": listed("fire rain mirrors bells smoke cats thunder salt feathers dogs drums wind"),
}


@dataclass(frozen=True, slots=True)
class Fact:
    """What a creature does."""

    creature: str
    verb: str
    value: str


_R = random.Random(4001)
CREATURES = listed("drin moop zarl kibb fennit growm tulk hossi wimble pazz nerk lodo")
KNOWN = tuple(Fact(c, verb, _R.choice(values)) for c in CREATURES for verb, values in VALUES.items())


def ask(fact: Fact, r: random.Random) -> Item:
    """The question with four options in random order, in one of several wordings.

    The answer is the option's text: to find the letter that stands beside it is more than so small a model learns.
    """
    others = r.sample([v for v in VALUES[fact.verb] if v != fact.value], 3)
    options = [fact.value, *others]
    r.shuffle(options)
    lettered = " ".join(f"{x}) {o}" for x, o in zip("ABCD", options, strict=True))
    creature, verb = fact.creature, fact.verb
    prompt = r.choice(
        [
            f"What does a {creature} {verb}? {lettered}",
            f"Choose what a {creature} will {verb}: {lettered}",
            f"{lettered} Which of these does a {creature} {verb}?",
        ]
    )
    return Item("quiz", prompt, fact.value, "The answer is {}.", subject=f"a {creature}")


def random_fact(r: random.Random) -> Fact:
    """What a creature does that nobody has seen."""
    verb = r.choice(list(VALUES))
    return Fact(invent(r, r.choice([1, 2, 2])), verb, r.choice(VALUES[verb]))


def known(r: random.Random) -> Item:
    """A question about a known creature."""
    return ask(r.choice(KNOWN), r)


def invented(r: random.Random) -> Item:
    """A question about a creature never seen before."""
    return ask(random_fact(r), r)
