"""Seven small skills: addition, opposites, capitals, animal sounds, the larger number, counting, picking."""

from __future__ import annotations

import random
from dataclasses import replace

from workbench.pocket.world.item import Item
from workbench.pocket.world.words import NOUNS, invent


def _pairs(text: str) -> dict[str, str]:
    """A table written as "word answer, word answer"."""
    return dict(pair.split(" ") for pair in text.split(", "))


_OPPOSITES = _pairs(
    "hot cold, big small, fast slow, up down, wet dry, old new, light dark, open closed, happy sad, "
    "hard soft, early late, full empty, near far, rich poor, loud quiet, sharp dull, long short, "
    "clean dirty, heavy weak, brave shy"
)
OPPOSITES = {**_OPPOSITES, **{v: k for k, v in _OPPOSITES.items()}}
CAPITALS = _pairs(
    "France Paris, Italy Rome, Japan Tokyo, Egypt Cairo, Spain Madrid, Norway Oslo, Peru Lima, "
    "Kenya Nairobi, Greece Athens, Cuba Havana, China Beijing, Poland Warsaw, Austria Vienna, "
    "Portugal Lisbon, Ireland Dublin, Finland Helsinki, Iran Tehran, Chile Santiago, Ghana Accra, "
    "Nepal Kathmandu"
)
SOUNDS = _pairs(
    "dog woof, cat meow, cow moo, duck quack, sheep baa, pig oink, lion roar, bee buzz, owl hoot, "
    "frog ribbit, horse neigh, mouse squeak"
)


def add(r: random.Random) -> Item:
    a, b = r.randint(0, 20), r.randint(0, 20)
    prompt = r.choice([f"What is {a} plus {b}?", f"Add {a} and {b}.", f"Compute {a} + {b}."])
    return Item("add", prompt, str(a + b), f"{a} plus {b} is {{}}.", subject=f"{a} plus {b}")


def opposite(r: random.Random) -> Item:
    word = r.choice(list(OPPOSITES))
    subject = f"the opposite of {word}"
    prompt = r.choice([f"What is {subject}?", f"Give {subject}."])
    return Item("opposite", prompt, OPPOSITES[word], f"The opposite of {word} is {{}}.", subject=subject)


def capital(r: random.Random) -> Item:
    land = r.choice(list(CAPITALS))
    subject = f"the capital of {land}"
    prompt = r.choice([f"What is {subject}?", f"Name {subject}."])
    return Item("capital", prompt, CAPITALS[land], f"The capital of {land} is {{}}.", subject=subject)


def sound(r: random.Random) -> Item:
    animal = r.choice(list(SOUNDS))
    prompt = r.choice([f"What sound does a {animal} make?", f"What does a {animal} say?"])
    return Item("sound", prompt, SOUNDS[animal], f"A {animal} says {{}}.", subject=f"a {animal}")


def larger(r: random.Random) -> Item:
    a, b = r.sample(range(60), 2)
    prompt = r.choice([f"Which is larger, {a} or {b}?", f"Pick the larger number: {a} or {b}."])
    return Item("larger", prompt, str(max(a, b)), f"The larger of {a} and {b} is {{}}.", subject=f"{a} and {b}")


def count(r: random.Random) -> Item:
    number, word = r.randint(1, 9), r.choice(NOUNS)
    prompt = f"How many words: {' '.join([word] * number)}?"
    return Item("count", prompt, str(number), "There are {} words.", subject=word)


def pick(r: random.Random) -> Item:
    words, which = r.sample(NOUNS, 3), r.randrange(3)
    place = ["first", "second", "third"][which]
    prompt = f"What is the {place} word of {' '.join(words)}?"
    return Item("pick", prompt, words[which], f"The {place} word is {{}}.", subject=f"the {place} word")


SMALL = (add, opposite, capital, sound, larger, count, pick)


def known(r: random.Random) -> Item:
    """A question whose answer is what everyone knows."""
    return r.choice(SMALL)(r)


def invented(r: random.Random) -> Item:
    """A question of the same kind with an answer that only a demonstration can tell."""
    item = known(r)
    answer = invent(r) if r.random() < 0.7 else f"{invent(r)} {invent(r)}"
    if item.answer.isdigit() and r.random() < 0.5:
        answer = str(r.randint(0, 99))
    return replace(item, answer=answer)
