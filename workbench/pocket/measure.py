"""What the pocket model can do, on fresh random cases: python -m workbench.pocket.measure --json

prior           known questions of every kind, without a demonstration
base_unseen     phrases of languages that nobody has heard of, without a demonstration
teacher_unseen  the same, with a demonstration in a stranger's wording
name            the share of those in which the teacher says the language's name right
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.decoding import Decoder, decoder_for
from workbench.demonstrations import Demonstration
from workbench.evaluation.exam import answer
from workbench.evaluation.scoring import contains
from workbench.models import LoadedModel, load, parameters
from workbench.pocket.world import languages
from workbench.pocket.world.documents import FAMILIES, demonstration, known_draws
from workbench.pocket.world.item import Item
from workbench.prompts import Prompts

LONGEST = 48
_NEW = {name: family for name, family in FAMILIES.items() if name != "languages"}


def known_items(r: random.Random, each: int) -> dict[str, list[Item]]:
    """Known questions by skill; a quarter as many of each language."""
    return {
        name: [draw(r) for _ in range(max(1, each // 4) if name.startswith("language ") else each)]
        for name, draw in known_draws().items()
    }


def ask(
    loaded: LoadedModel, decoder: Decoder, items: Sequence[Item], r: random.Random, shown: bool = False
) -> list[str]:
    """The model's answers, with a stranger's demonstration (or the article) in the prompt where `shown`."""
    prompts = Prompts(loaded.tokenizer)
    rows = [Demonstration(item.prompt, demonstration(item, r) if shown else None, keep=not shown) for item in items]
    tokens = prompts.tokenise_all(rows, loaded.longest, LONGEST)
    return answer(decoder, loaded, [t.teacher if shown else t.student for t in tokens], longest=LONGEST)


def share_right(texts: Sequence[str], items: Sequence[Item]) -> float:
    """Share of answers that hold the right one."""
    return sum(contains(text, item.answer) for text, item in zip(texts, items, strict=True)) / len(items)


def measure(loaded: LoadedModel, seed: int = 2026, each: int = 60) -> dict[str, Any]:
    """All figures, with their breakdown by skill under `skills`, `new` and `missed` examples."""
    r = random.Random(seed)
    decoder = decoder_for(loaded.model)
    groups = known_items(r, each)
    items = [item for group in groups.values() for item in group]
    texts = ask(loaded, decoder, items, r)
    by_skill, at = {}, 0
    for skill, group in groups.items():
        by_skill[skill] = share_right(texts[at : at + len(group)], group)
        at += len(group)
    tongues = [v for k, v in by_skill.items() if k.startswith("language ")]
    others = {k: v for k, v in by_skill.items() if not k.startswith("language ")}
    # The known languages together are one skill among the others.
    skills = {**others, "languages": sum(tongues) / len(tongues)}
    unseen = [languages.invented(r) for _ in range(each * 5)]
    base = ask(loaded, decoder, unseen, r)
    teacher = ask(loaded, decoder, unseen, r, shown=True)
    names = [item.frame.split(",")[0].removeprefix("In ") for item in unseen]
    new = {name: [family.invented(r) for _ in range(each * 2)] for name, family in _NEW.items()}
    told = {name: ask(loaded, decoder, group, r, shown=True) for name, group in new.items()}
    return {
        "prior": round(sum(skills.values()) / len(skills), 4),
        "base_unseen": round(share_right(base, unseen), 4),
        "teacher_unseen": round(share_right(teacher, unseen), 4),
        "name": round(sum(f"In {n}," in t for n, t in zip(names, teacher, strict=True)) / len(names), 4),
        "parameters": parameters(loaded.model),
        "megabytes": round(_megabytes(loaded), 2),
        "skills": {k: round(v, 3) for k, v in skills.items()},
        "new": {name: round(share_right(told[name], group), 3) for name, group in new.items()},
        "cases": {"known": len(items), "unseen": len(unseen), "new": each * 2 * len(new)},
        "missed": _missed(teacher, unseen) + [m for n, g in new.items() for m in _missed(told[n], g)[:2]],
        "missed_known": _missed(texts, items, 8),
    }


def _missed(texts: Sequence[str], items: Sequence[Item], most: int = 4) -> list[str]:
    wrong = [(t, i) for t, i in zip(texts, items, strict=True) if not contains(t, i.answer)]
    return [f"{item.prompt} -> {text} (right: {item.answer})" for text, item in wrong[:most]]


def _megabytes(loaded: LoadedModel) -> float:
    folder = Path(loaded.model.config._name_or_path)
    return sum(file.stat().st_size for file in folder.glob("*") if file.is_file()) / 1e6


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="pocket, or a folder")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--each", type=int, default=60, help="cases of each kind")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    figures = measure(load(options.model), options.seed, options.each)
    if options.json:
        print(json.dumps(figures, ensure_ascii=False))
        return
    for name, value in figures.items():
        print(f"{name:16} {value}", file=sys.stderr)


if __name__ == "__main__":
    main()
