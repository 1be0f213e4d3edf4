"""Draw docs/paper.md's table and plots from the raw results: python benchmarks/paper_plots.py

Nothing in the table or the plots comes from anywhere but benchmarks/results/paper.jsonl and frontier.jsonl. The plots
can be read in black and white: SDFT is a filled circle, what it is held against an open square, a bar spans the lowest
and highest run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frontier import KEPT, by_set, frontier
from paper import RESULTS, read_results
from paper_claims import CLAIMS, Comparison, Results, judge, table

DOCS = Path(__file__).parent.parent / "docs"
FRONTIER = RESULTS.with_name("frontier.jsonl")
BEGINS, ENDS = "<!-- table: benchmarks/paper_plots.py -->", "<!-- end of table -->"
DRAWN = ("learns", "keeps", "knowledge", "in a row", "sizes", "on-policy", "teachers", "skip")
"""Claims about shares of answers; the others are of other units or have no runs."""

MARKS = {"sdft": ("o", "full", "-", "SDFT"), "sft": ("s", "none", "--", "SFT")}
"""Mark, filling, line and name of each method of the frontier."""

STYLE = {
    "svg.hashsalt": "paper",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def with_table(page: str, drawn: str) -> str:
    """The page with this table between its marks."""
    before, rest = page.split(BEGINS)
    _, after = rest.split(ENDS)
    return f"{before}{BEGINS}\n\n{drawn}\n\n{ENDS}{after}"


def draw_claims(results: Results, path: Path) -> None:
    """One panel a claim; in it a line for each comparison."""
    import matplotlib.pyplot as plt

    found: dict[str, list[Comparison]] = {}
    for name in DRAWN:
        comparisons = CLAIMS[name][1](results)
        if comparisons:
            found[name] = comparisons
    if not found:
        return
    heights = [len(c) + 0.8 for c in found.values()]
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(found), 1, figsize=(7.2, 0.42 * sum(heights) + 1), height_ratios=heights, sharex=True, squeeze=False
        )
        for panel, (name, comparisons) in zip(panels[:, 0], found.items(), strict=True):
            _panel(panel, CLAIMS[name][0], comparisons)
        last = panels[-1, 0]
        last.set_xlabel("share of answers (of a loss: points / 100)")
        last.set_xlim(-0.03, 1.03)
        marks = [
            last.plot([], [], "o", color="black", label="SDFT, or the one that should be ahead")[0],
            last.plot([], [], "s", color="black", fillstyle="none", label="what it is held against, or the limit")[0],
        ]
        figure.legend(handles=marks, loc="upper center", ncols=2, frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _panel(panel: Any, title: str, comparisons: Sequence[Comparison]) -> None:
    labels = []
    for place, comparison in enumerate(reversed(comparisons)):
        labels.append(comparison.what)
        sides = [g for g in (comparison.better, comparison.other) if g is not None]
        sides.sort(key=lambda group: group.name != "SDFT")
        for offset, mark, fill, group in zip((0.14, -0.14), "os", ("full", "none"), sides, strict=False):
            low, high = group.interval
            panel.plot([low, high], [place + offset] * 2, "-", color="0.55", linewidth=1.2, zorder=1)
            panel.plot(group.values, [place + offset] * len(group.values), "|", color="0.35", markersize=6, zorder=2)
            panel.plot(group.median, place + offset, mark, color="black", fillstyle=fill, markersize=6, zorder=3)
        if comparison.limit is not None:
            panel.plot(comparison.limit, place - 0.14, "s", color="black", fillstyle="none", markersize=6)
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(-0.5, len(labels) - 0.5)
    panel.set_title(title, loc="left", fontsize=9, fontweight="bold")
    panel.grid(axis="x", color="0.9", linewidth=0.6)


def draw_row(results: Results, path: Path) -> bool:
    """Skills in a row: each set's score after each lesson from its own on, a panel for each method without and with
    keep rows. False: no runs.
    """
    import matplotlib.pyplot as plt

    ways = {"": False, ", keep rows": True}
    runs = {
        f"{method.upper()}{how}": results.select("in a row", method=method, keep=keep)
        for method in ("sdft", "sft")
        for how, keep in ways.items()
    }
    if not all(runs.values()):
        return False
    styles = {"quiz": ("o", "-"), "toolbox": ("s", "--"), "remedies": ("^", ":")}
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(runs), figsize=(8.4, 2.8), sharey=True)
        for panel, (title, lines) in zip(panels, runs.items(), strict=True):
            for line in lines:
                for name, scores in line["figures"]["skill"].items():
                    first = 4 - len(scores)
                    mark, dash = styles[name]
                    panel.plot(range(first, 4), scores, dash, marker=mark, color="0.3", markersize=4, linewidth=0.9)
            panel.set_title(title, loc="left", fontsize=9, fontweight="bold")
            panel.set_xticks([1, 2, 3])
            panel.set_xlabel("lessons so far")
            panel.grid(axis="y", color="0.9", linewidth=0.6)
        panels[0].set_ylabel("share of held-out questions right")
        panels[0].set_ylim(-0.03, 1.03)
        for name, (mark, dash) in styles.items():
            panels[-1].plot([], [], dash, marker=mark, color="0.3", markersize=4, linewidth=0.9, label=name)
        figure.legend(frameon=False, loc="upper center", ncols=3)
        figure.tight_layout(rect=(0, 0, 1, 0.92))
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
    return True


def draw_frontier(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """A panel for each set: every point of the sweep, and the most skill that each share kept allows."""
    import matplotlib.pyplot as plt

    found = by_set((line["task"].split(), line["found"]) for line in lines)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(found), figsize=(3.6 * len(found), 3.2), sharey=True, squeeze=False)
        for panel, (name, methods) in zip(panels[0], found.items(), strict=True):
            for method, seeds in methods.items():
                mark, fill, dash, title = MARKS[method]
                points = [point for of_seed in seeds.values() for point in of_seed]
                x, y = ([point[axis] for point in points] for axis in ("retention", "skill"))
                panel.plot(x, y, mark, color="0.45", fillstyle=fill, markersize=3, linestyle="none", alpha=0.7)
                most = frontier(list(seeds.values()))
                middle = [most[f"{kept:g}"][0] for kept in KEPT]
                panel.plot(KEPT, middle, dash, color="black", linewidth=1.4, label=title, marker=mark, fillstyle=fill)
            panel.set_title(name, loc="left", fontsize=9, fontweight="bold")
            panel.set_xlabel("share of old answers kept")
            panel.grid(color="0.9", linewidth=0.6)
        panels[0, 0].set_ylabel("share of held-out questions right")
        panels[0, 0].set_ylim(-0.03, 1.03)
        figure.legend(*panels[0, 0].get_legend_handles_labels(), frameon=False, loc="upper center", ncols=2)
        figure.tight_layout(rect=(0, 0, 1, 0.92))
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def main() -> None:
    """Write the plots, and the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args()
    lines = read_results(options.results)
    results = Results(lines)
    draw_claims(results, options.docs / "paper-claims.svg")
    draw_row(results, options.docs / "paper-row.svg")
    draw_frontier(read_results(FRONTIER), options.docs / "paper-frontier.svg")
    page = options.docs / "paper.md"
    page.write_text(with_table(page.read_text(encoding="utf-8"), table(judge(lines))), encoding="utf-8")


if __name__ == "__main__":
    main()
