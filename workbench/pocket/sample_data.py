"""Write the sample sets and the retention probes: python -m workbench.pocket.sample_data [--out sample_data]

The skills of zorbic, pelan, toolbox, quiz, remedies and events are of the pocket model's kind but unknown to it. The
probes and the keep rows ask for what it knows; no question is in both.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from workbench.demonstrations import Demonstration, write
from workbench.pocket import PROBES
from workbench.pocket.world import events, languages, quiz, remedies, toolbox
from workbench.pocket.world.documents import AT_LENGTH, FAMILIES, known_draws
from workbench.pocket.world.item import Item
from workbench.pocket.world.languages import Language
from workbench.pocket.world.wording import foreign
from workbench.pocket.world.words import ADJECTIVES, NOUNS, listed

ZORBIC = languages.make("Zorbic", 101, noun_first=True)
PELAN = languages.make("Pelan", 102, noun_first=False)
EVENTS_SEED = 14

_TOOLS = (
    ("glim", "brighten", 0),
    ("hoist", "lift", 1),
    ("barter", "exchange", 2),
    ("seek", "look for", 3),
    ("hold_for", "keep", 4),
    ("phone", "ring", 5),
    ("cool", "chill", 0),
    ("pile", "stack", 1),
    ("mend", "mend", 3),
)
_CREATURES = listed("vorp snell quim drabble hust flink yarrow tizz grelk plod umber wexel")
_REMEDIES = listed("solvine brakka tumeel oshra pindor fexil marrow zintha culp dorvane")
_COUNTRIES = listed(
    "Ostrela Belmar Quillon Tasmere Norvik Elandra Pruvia Sankori Mirabel Dorvania Ketterin Ulmaria Visgard Almeda "
    "Torrona Hespera Cadrin Lumere Oskavia Brenth"
)
_HELPERS = listed(
    "Farrow Lindal Corvina Meskal Yrsa Padrona Gildern Ambria Stovik Relmont Zaberia Cantor Ilvania Brusk Wendal "
    "Oreste Hadley Pomeric Sulwen Arkady"
)


def rows_of(items: Iterable[Item], name: str, r: random.Random) -> list[Demonstration]:
    """Items as rows with a stranger's demonstration, numbered; an article becomes the context."""
    return [
        Demonstration(
            prompt=item.prompt,
            demonstration=foreign(item, r, AT_LENGTH),
            answer=item.answer,
            context=item.article,
            id=f"{name}-{number:03d}",
            tags=(item.skill,),
        )
        for number, item in enumerate(items, start=1)
    ]


def language_rows(language: Language, seed: int, count: int = 200) -> list[Demonstration]:
    """`count` of the 256 phrases, each once."""
    r = random.Random(seed)
    pairs = list(itertools.product(ADJECTIVES, NOUNS))
    r.shuffle(pairs)
    items = [languages.ask(language, a, n, r) for a, n in pairs[:count]]
    return rows_of(items, language.name.lower(), r)


def toolbox_rows(seed: int = 11) -> list[Demonstration]:
    """Nine unknown tools, some eighteen requests each."""
    r = random.Random(seed)
    tools = [toolbox.make(*tool) for tool in _TOOLS]
    return rows_of(_different(lambda: toolbox.ask(r.choice(tools), r), 160), "toolbox", r)


def quiz_rows(seed: int = 12) -> list[Demonstration]:
    """Thirty-six facts about unknown creatures, each asked some four times with other options and wordings."""
    r = random.Random(seed)
    facts = [quiz.Fact(c, verb, r.choice(values)) for c in _CREATURES for verb, values in quiz.VALUES.items()]
    turns = itertools.cycle(facts)
    return rows_of(_different(lambda: quiz.ask(next(turns), r), 144), "quiz", r)


def remedies_rows(seed: int = 13) -> list[Demonstration]:
    """Forty unknown rules, each asked four times in other words."""
    r = random.Random(seed)
    rules = [remedies.Rule(a, b, r.choice(_REMEDIES)) for a, b in remedies.NEW_PAIRS]
    turns = itertools.cycle(rules)
    return rows_of(_different(lambda: remedies.ask(next(turns), r), 160), "remedies", r)


def unknown_events(r: random.Random) -> list[events.Event]:
    """Twenty events that the pocket has never read of, each in a year of its own."""
    years = r.sample([y for y in range(1900, 2100) if y not in {e.year for e in events.KNOWN}], len(_COUNTRIES))
    return [
        events.Event(events.WHAT[i % len(events.WHAT)], year, country, r.choice(events.LOST), helper)
        for i, (year, country, helper) in enumerate(zip(years, _COUNTRIES, _HELPERS, strict=True))
    ]


def events_rows(seed: int = EVENTS_SEED) -> list[Demonstration]:
    """Twenty unknown events, each asked three times directly and three times indirectly, with its article."""
    r = random.Random(seed)
    kinds = (*events.DIRECT, *events.INDIRECT)
    return rows_of([events.ask(e, kind, r) for e in unknown_events(r) for kind in kinds], "events", r)


def _different(draw: Callable[[], Item], count: int) -> list[Item]:
    """`count` items with different prompts."""
    found: dict[str, Item] = {}
    while len(found) < count:
        item = draw()
        found.setdefault(item.prompt, item)
    return list(found.values())


def probes_and_keep(seed: int = 15) -> tuple[list[Demonstration], list[Demonstration]]:
    """Probes with answers, and keep rows without; both of every kind of known question, none in both.

    Twelve probes of each small skill and family and four of each language; ten, fourteen and six keep rows.
    """
    r = random.Random(seed)
    probes: list[Item] = []
    keep: list[Item] = []
    for name, draw in known_draws().items():
        asked, kept = (4, 6) if name.startswith("language ") else (12, 14) if name in FAMILIES else (12, 10)
        items = _different(partial(draw, r), asked + kept)
        probes += items[:asked]
        keep += items[asked:]
    r.shuffle(keep)
    return (
        [
            Demonstration(i.prompt, answer=i.answer, id=f"probe-{n:03d}", tags=(i.skill,))
            for n, i in enumerate(probes, 1)
        ],
        [Demonstration(i.prompt, id=f"keep-{n:03d}", tags=(i.skill,), keep=True) for n, i in enumerate(keep, 1)],
    )


def all_files(out: Path, probes_path: Path) -> dict[Path, list[Demonstration]]:
    """Every file with its rows."""
    probes, keep = probes_and_keep()
    return {
        out / "zorbic.jsonl": language_rows(ZORBIC, 1),
        out / "pelan.jsonl": language_rows(PELAN, 2),
        out / "toolbox.jsonl": toolbox_rows(),
        out / "quiz.jsonl": quiz_rows(),
        out / "remedies.jsonl": remedies_rows(),
        out / "events.jsonl": events_rows(),
        out / "keep.jsonl": keep,
        probes_path: probes,
    }


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sample_data"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for path, rows in all_files(options.out, PROBES).items():
        write(rows, path)
        print(f"{path}: {len(rows)} rows")


if __name__ == "__main__":
    main()
