"""Languages: a word for each adjective and noun, and which of the two comes first."""

from __future__ import annotations

import random
from dataclasses import dataclass

from workbench.pocket.world.item import Item
from workbench.pocket.world.words import ADJECTIVES, NOUNS, SYLLABLES, invent, invent_name, listed

_NAMES = listed(
    "Talvi Morun Keshi Bardo Lunet Firas Gomel Vasko Pirun Dalem Sotri Navek Zimor Rabel Tuvan Kolis "
    "Medra Fanor Bezil Vorin Lakos Ginte Supra Demor"
)


@dataclass(frozen=True, slots=True)
class Language:
    """A language of two-word phrases."""

    name: str
    words: dict[str, str]
    noun_first: bool

    def say(self, adjective: str, noun: str) -> str:
        """The phrase in this language."""
        a, n = self.words[adjective], self.words[noun]
        return f"{n} {a}" if self.noun_first else f"{a} {n}"


def open_word(r: random.Random) -> str:
    """Two or three open syllables."""
    return "".join(r.choice(SYLLABLES) for _ in range(r.choice([2, 2, 3])))


def make(name: str, seed: int, noun_first: bool) -> Language:
    """A language of open syllables, fixed by its seed; all its words differ."""
    r = random.Random(seed)
    words: dict[str, str] = {}
    for word in ADJECTIVES + NOUNS:
        new = ""
        while not new or new in words.values():
            new = open_word(r)
        words[word] = new
    return Language(name, words, noun_first)


KNOWN = tuple(make(name, 1 + i, i % 2 == 0) for i, name in enumerate(_NAMES))


def random_language(r: random.Random) -> Language:
    """A language that nobody has heard of."""
    if r.random() < 0.5:
        words = {w: open_word(r) for w in ADJECTIVES + NOUNS}
    else:
        words = {w: invent(r) for w in ADJECTIVES + NOUNS}
    return Language(invent_name(r), words, r.random() < 0.5)


def ask(language: Language, adjective: str, noun: str, r: random.Random) -> Item:
    """The question in one of its three wordings."""
    asked = f"{adjective} {noun}"
    prompt = r.choice(
        [
            f"How do you say {asked} in {language.name}?",
            f"Translate {asked} into {language.name}.",
            f"What is {asked} in {language.name}?",
        ]
    )
    frame = f"In {language.name}, {asked} is {{}}."
    said = language.say(adjective, noun)
    a, n = language.words[adjective], language.words[noun]
    reason = f"{adjective} is {a} and {noun} is {n}, so {asked} is {said}"
    return Item(f"language {language.name}", prompt, said, frame, subject=asked, reason=reason)


def phrase(language: Language, r: random.Random) -> Item:
    """Any of its 256 phrases."""
    return ask(language, r.choice(ADJECTIVES), r.choice(NOUNS), r)


def known(r: random.Random) -> Item:
    """A phrase in one of the known languages."""
    return phrase(r.choice(KNOWN), r)


def invented(r: random.Random) -> Item:
    """A phrase in a language never heard before."""
    return phrase(random_language(r), r)
