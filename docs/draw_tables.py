"""Write the tables of the bundled model's lessons from benchmarks/results: python docs/draw_tables.py

Each table stands in its page between a comment that names it and a comment that ends it. Without a change in the
results nothing changes; the tests compare.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "benchmarks"))

import frontier as frontier_benchmark  # noqa: E402
import keep_rows as keep_rows_benchmark  # noqa: E402
import placement as placement_benchmark  # noqa: E402

METHODS = {
    "sdft": "SDFT, its defaults",
    "sdft_both": "SDFT, learning rate, steps and layers chosen on a validation split",
    "sft": "SFT, the same three chosen on the same split",
    "sft_same": "SFT with SDFT's defaults",
    "sdft_keep": "SDFT, its defaults, with keep rows (generic questions, none of the probes)",
    "sft_keep": "SFT as chosen without keep rows, with them and the base's own answers",
}
SECOND = {
    "sequence_without": "without keep rows",
    "sequence_with": "with generic keep rows and Zorbic's questions, a quarter of each batch",
}

KNOWING = {"sdft": "SDFT", "sft": "SFT", "sft on teacher samples": "SFT on what the teacher says"}


def finished(name: str) -> list[dict[str, Any]]:
    """The finished tasks in a file of results."""
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def by_seed(runs: list[dict[str, float]], figure: str) -> str:
    """A figure of each run, in the order of the seeds."""
    return " ".join(f"{run[figure]:.2f}" for run in runs)


def lesson_runs() -> dict[str, list[dict[str, float]]]:
    """The runs of lesson.py by what was done."""
    runs: dict[str, list[dict[str, float]]] = {}
    for line in finished("lesson"):
        kind = line["task"].split()[0]
        for name, found in line["found"].items() if kind == "sequence" else [(kind, line["found"])]:
            runs.setdefault(name, []).append(found)
    return runs


def lesson() -> Iterator[str]:
    """One language: skill and what was kept, by seed."""
    runs = lesson_runs()
    yield row("", "held-out skill", "kept")
    yield "|---|---|---|"
    for name, words in METHODS.items():
        yield row(words, by_seed(runs[name], "skill"), by_seed(runs[name], "retention"))


def sequence() -> Iterator[str]:
    """Two languages in a row: what is left of the first, the second, and what was kept, by seed."""
    runs = lesson_runs()
    yield row("", "Zorbic", "Pelan", "kept")
    yield "|---|---|---|---|"
    for name, words in SECOND.items():
        yield row(words, *(by_seed(runs[name], figure) for figure in ("first", "skill", "retention")))


def unnamed(changes: dict[str, Any]) -> str:
    """What a variant of keep_rows.py changes beside what its name says."""
    if "targets" in changes:
        return f", {changes['lr_times']:g} times the learning rate"
    return ", no keep rows" if "anchor" in changes else ""


def keep_rows() -> Iterator[str]:
    """What each change of the second lesson does."""
    yield row("second lesson", "Zorbic", "Pelan", "kept", "of the known languages", "of the rest")
    yield "|---|---|---|---|---|---|"
    lines = finished("keep_rows")
    bundled = lines[0]["about"]["parameters"]  # the bundled model was taught first
    for line in lines:
        size = line["about"]["parameters"]
        name = " ".join(line["task"].split()[2:])
        name += unnamed(keep_rows_benchmark.VARIANTS[name])
        name += "" if size == bundled else f", a pocket of {size / 1e6:.1f}M"
        figures = ("first", "skill", "retention", "languages", "rest")
        yield row(name, *(f"{line['found'][figure]:.2f}" for figure in figures))


def placement() -> Iterator[str]:
    """What each place of the adapter does, as medians over seeds, and with which settings."""
    found: dict[str, list[dict[str, float]]] = {}
    defaults: dict[str, Any] = {}
    for line in finished("placement"):
        found.setdefault(line["task"].rsplit(" ", 1)[0], []).append(line["found"])
        defaults = {name: value for group in line["about"]["defaults"].values() for name, value in group.items()}
    yield row("adapter on", "rank", "learning rate", "steps", "held-out skill", "kept")
    yield "|---|---|---|---|---|---|"
    for name, runs in found.items():
        chosen = defaults | placement_benchmark.VARIANTS[name]
        settings = str(chosen["rank"]), f"{1e4 * chosen['lr']:g}e-4", str(chosen["steps"])
        middle = (statistics.median(run[figure] for run in runs) for figure in ("skill", "retention"))
        yield row(re.sub(r", rank \d+", "", name), *settings, *(f"{value:.2f}" for value in middle))


def knowledge() -> Iterator[str]:
    """What is answered of events that were taught by direct questions: medians over seeds, lowest and highest."""
    found: dict[str, list[dict[str, float]]] = {}
    for line in finished("indirect"):
        method, *place = line["task"].rsplit(" ", 2)
        if place and place[0].isdigit():
            found.setdefault(method, []).append(line["found"])

    def cell(runs: list[dict[str, float]], figure: str) -> str:
        values = [run[figure] for run in runs]
        return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    yield row("taught by", "the question that was taught", "its decade", "what it undid", "kept", "seeds")
    yield "|---|---|---|---|---|---|"
    for method, runs in found.items():
        figures = (cell(runs, figure) for figure in ("direct", "decade", "undone", "retention"))
        yield row(KNOWING[method], *figures, str(len(runs)))


def frontier() -> Iterator[str]:
    """The most that is learned under any setting among those that keep so much: medians, lowest and highest."""
    found = frontier_benchmark.by_set((line["task"].split(), line["found"]) for line in finished("frontier"))
    shares = [f"{kept:g}" for kept in frontier_benchmark.KEPT]
    yield row("set", "by", *(f"{kept} kept" if float(kept) else "any" for kept in shares), "seeds")
    yield f"|{'---|' * (3 + len(shares))}"
    for name, methods in found.items():
        for method, seeds in methods.items():
            most = frontier_benchmark.frontier(list(seeds.values()))
            cells = (f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in (most[s] for s in shares))
            yield row(name, KNOWING[method], *cells, str(len(seeds)))


TABLES: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "lesson": ("README.md", lesson),
    "sequence": ("README.md", sequence),
    "keep rows": ("docs/method.md", keep_rows),
    "placement": ("docs/pocket.md", placement),
    "knowledge": ("docs/paper.md", knowledge),
    "frontier": ("docs/paper.md", frontier),
}


def with_tables(page: str, text: str) -> str:
    """A page's text with its tables as the results have them. Raises ValueError where a table has no place."""
    for name, (own, draw) in TABLES.items():
        if own == page:
            begin, end = f"<!-- {name}, by docs/draw_tables.py -->\n", "<!-- end -->"
            start = text.index(begin) + len(begin)
            text = text[:start] + "\n".join(draw()) + "\n" + text[text.index(end, start) :]
    return text


def main() -> None:
    """Write all pages."""
    for page in dict.fromkeys(own for own, _ in TABLES.values()):
        path = ROOT / page
        path.write_text(with_tables(page, path.read_text()))


if __name__ == "__main__":
    main()
