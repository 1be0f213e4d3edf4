"""The words of the world, and words that nobody has used before."""

from __future__ import annotations

import random


def listed(text: str, between: str | None = None) -> list[str]:
    """The parts of a table that is easier to read in one string."""
    return text.split(between)


ADJECTIVES = listed("red blue green big small old new hot cold fast slow happy sad dark light")
NOUNS = listed("ball house tree fish bird boat stone door apple chair river cloud star cup road king")

_ONSETS = listed("b d f g k l m n p r s t v z")
_CLUSTERS = [*_ONSETS, *listed("br ch cr dr fl gr kl pr sh sk st th tr h j w x y qu")]
_VOWELS = ["a", "e", "i", "o", "u"]
_RICH_VOWELS = [*_VOWELS, "ai", "au", "ee", "oo", "ei", "y", "ou", "á", "é", "ö", "ü", "ñ"]
_CODAS = ["", "", "n", "r", "s", "l", "m", "k", "t", "sh", "x", "nd", "rk"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
SYLLABLES = [c + v for c in _ONSETS for v in _VOWELS]


def invent(r: random.Random, syllables: int | None = None) -> str:
    """A word that means nothing: mostly open syllables, often closed ones and clusters, or any letters."""
    count = syllables or r.choice([1, 2, 2, 2, 3, 3, 4])
    style = r.random()
    if style < 0.45:
        return "".join(r.choice(SYLLABLES) for _ in range(max(2, count)))
    if style < 0.9:
        parts = [r.choice(_CLUSTERS) + r.choice(_VOWELS) + r.choice(_CODAS) for _ in range(min(count, 3))]
        return r.choice(["", "", "", "", "'", "-"]).join(parts)
    if style < 0.96:
        return "".join(r.choice(_CLUSTERS) + r.choice(_RICH_VOWELS) for _ in range(min(count, 3)))
    return "".join(r.choice(_LETTERS) for _ in range(r.randint(3, 7)))


def invent_name(r: random.Random) -> str:
    """A name: an invented word, or one with a usual ending, with a capital."""
    word = invent(r, r.choice([1, 2, 2, 3]))
    if r.random() < 0.4:
        word += r.choice(["ic", "an", "ish", "ese", "ia", "or", "ian", "en", "ak", "um"])
    return word[0].upper() + word[1:]
