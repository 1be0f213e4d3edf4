"""Does a claim of the paper hold on the bundled model? Decided by rule from the raw results, never by hand.

A claim is a list of comparisons, each of two groups of runs. Over its runs a group has a median and an interval from
the lowest to the highest (over five seeds that interval holds the true median with probability 1 - 2/2^5 = 94%).
A comparison is

    clear    the better group's interval lies wholly above the other's
    leaning  its median does
    against  neither

and the claim holds: `yes` if every comparison is clear, `no` if none is at least leaning, else `partly`. With
fewer than three seeds nothing is clear, and before all its comparisons are measured no claim holds.
Some claims say that nothing is lost; their comparison is of a loss with a limit, and is clear if the whole interval
stays within it, leaning if the median does. Others name a number; their comparison is clear if the interval holds it
(leaning with fewer than three seeds), else against.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Line = dict[str, Any]
SKILLS = ("quiz", "toolbox", "remedies")
FOLLOWED = ("quiz", "zorbic")
OFFLINE = ("offline distillation", "sft on teacher samples")
GENTLY = "gently"
"""The variant of `on-policy` with a longer lesson at a lower learning rate."""
ENOUGH = 3
LIMIT = 0.05
"""Skills in a row may lose this much."""
PAPER_COST = {"operations ratio": 2.5, "time ratio": 4.0}
"""A step of SDFT in steps of SFT, as the paper has it."""
LEAKS = 0.5
"""A teacher that says the preface in fewer of its answers than this has none to hand on."""


@dataclass(frozen=True)
class Group:
    """The same figure of several runs that differ in their seed (or order) alone."""

    name: str
    values: tuple[float, ...]
    seeds: int

    @property
    def median(self) -> float:
        """The middle one."""
        return round(statistics.median(self.values), 4)

    @property
    def interval(self) -> list[float]:
        """Lowest and highest."""
        return [round(min(self.values), 4), round(max(self.values), 4)]


@dataclass(frozen=True)
class Comparison:
    """`better` should be higher than `other`; with a limit, at most the limit; with a number named, that number."""

    what: str
    better: Group
    other: Group | None = None
    limit: float | None = None
    named: float | None = None

    @property
    def state(self) -> str:
        """clear, leaning or against."""
        few = min(g.seeds for g in (self.better, self.other) if g is not None) < ENOUGH
        if self.limit is not None:
            clear, leaning = self.better.interval[1] <= self.limit, self.better.median <= self.limit
        elif self.named is not None:
            clear = leaning = self.better.interval[0] <= self.named <= self.better.interval[1]
        else:
            assert self.other is not None
            clear = self.better.interval[0] > self.other.interval[1]
            leaning = self.better.median > self.other.median
        return "clear" if clear and not few else "leaning" if leaning else "against"


def verdict(comparisons: Sequence[Comparison], wanted: int) -> str | None:
    """yes, partly or no; None where nothing was measured, and no yes before all `wanted` comparisons were."""
    if not comparisons:
        return None
    states = [c.state for c in comparisons]
    if all(s == "clear" for s in states) and len(states) == wanted:
        return "yes"
    return "no" if all(s == "against" for s in states) else "partly"


class Results:
    """The latest line of each task, and groups of them."""

    def __init__(self, lines: Sequence[Line]) -> None:
        latest: dict[str, Line] = {}
        for line in lines:
            latest[repr(sorted(line["task"].items(), key=repr))] = line
        # A sweep that was repeated with other code may have chosen other settings; the newest code's runs count.
        newest = lines[-1]["code"] if lines else ""
        self.lines = [line for line in latest.values() if line["code"] == newest]

    def select(self, kind: str, **wanted: Any) -> list[Line]:
        """Lines of tasks with these values; None means that the task has no such value."""
        return [
            line
            for line in self.lines
            if line["task"]["kind"] == kind and all(line["task"].get(k) == v for k, v in wanted.items())
        ]

    def group(self, name: str, figure: str, kind: str, **wanted: Any) -> Group | None:
        """That figure of the runs selected; None without any."""
        chosen = self.select(kind, **wanted)
        if not chosen:
            return None
        return Group(name, tuple(r["figures"][figure] for r in chosen), len({r["task"]["seed"] for r in chosen}))

    def compare(self, what: str, figure: str, kind: str, better: Line, other: Line) -> list[Comparison]:
        """One comparison, or none where a side was not measured."""
        a = self.group(better.pop("name"), figure, kind, **better)
        b = self.group(other.pop("name"), figure, kind, **other)
        return [Comparison(what, a, b)] if a and b else []


PLAIN = {"variant": None, "size": None}
"""Of a task of SDFT as it is everywhere, on the bundled pocket."""


def _against_sft(results: Results, what: str, figure: str, kind: str, name: str, **more: Any) -> list[Comparison]:
    ours = {"name": "SDFT", "set": name, "method": "sdft", **PLAIN, **more}
    return results.compare(
        what, figure, kind, ours, {"name": "SFT", "set": name, "method": "sft", "size": None, **more}
    )


def learns(results: Results) -> list[Comparison]:
    """Held-out skill, SDFT above SFT on each set."""
    return [c for name in SKILLS for c in _against_sft(results, name, "skill", "learn", name)]


def keeps(results: Results) -> list[Comparison]:
    """Retention, SDFT above SFT after each set."""
    return [c for name in SKILLS for c in _against_sft(results, f"after {name}", "retention", "learn", name)]


def knowledge(results: Results) -> list[Comparison]:
    """Events, asked directly and indirectly, SDFT above SFT."""
    figures = {"strict": "direct, strict", "lenient": "direct, lenient", "indirect": "indirect"}
    return [c for f, what in figures.items() for c in _against_sft(results, what, f, "knowledge", "events")]


def in_a_row(results: Results) -> list[Comparison]:
    """SDFT loses at most five points and ends above SFT, both without and with keep rows."""
    found = []
    for keep, how in ((False, ""), (True, ", with keep rows")):
        lost = results.group("SDFT", "lost", "in a row", method="sdft", keep=keep)
        if lost:
            found.append(Comparison(f"most that a skill lost{how} (at most 0.05)", lost, limit=LIMIT))
        sides = {"name": "SDFT", "method": "sdft", "keep": keep}, {"name": "SFT", "method": "sft", "keep": keep}
        found += results.compare(f"all three skills at the end{how}", "end", "in a row", *sides)
    return found


def look_alike(results: Results) -> list[Comparison]:
    """With keep rows, what is left of the first of two languages lies above what is left without."""
    runs = results.select("look-alike")
    if not runs:
        return []
    left = {
        way: Group(way, tuple(r["figures"][f"sequence_{way}"]["first"] for r in runs), len(runs))
        for way in ("with", "without")
    }
    return [Comparison("first language, with keep rows and without", left["with"], left["without"])]


def sizes(results: Results) -> list[Comparison]:
    """The weak pocket's student does no better than SFT's; the larger ones' do."""
    weak = results.compare(
        "weak pocket: SFT ahead",
        "skill",
        "learn",
        {"name": "SFT", "set": "toolbox", "method": "sft", "size": "weak"},
        {"name": "SDFT", "set": "toolbox", "method": "sdft", "size": "weak"},
    )
    middle = _against_sft(results, "middle pocket: SDFT ahead", "skill", "learn", "toolbox", size="middle")
    smaller = weak + middle
    return smaller + _against_sft(results, "pocket: SDFT ahead", "skill", "learn", "toolbox") if smaller else []


def on_policy(results: Results) -> list[Comparison]:
    """SDFT above the same teacher followed on its own samples, in skill and in retention."""
    found = []
    for name, variant in (*((name, None) for name in FOLLOWED), ("zorbic", GENTLY)):
        for figure in ("skill", "retention"):
            for method in OFFLINE:
                ours = {"name": "SDFT", "set": name, "method": "sdft", "size": None, "variant": variant}
                other = {"name": method, "set": name, "method": method, "variant": variant}
                what = f"{name}{f' {variant}' if variant else ''}, {figure}, against {method}"
                found += results.compare(what, figure, "learn", ours, other)
    return found


def cost(results: Results) -> list[Comparison]:
    """A step of SDFT takes as many operations, and as much time, as the paper has it, in steps of SFT."""
    found = []
    for figure, named in PAPER_COST.items():
        group = results.group("SDFT", figure, "cost")
        found += (
            [Comparison(f"{figure} of a step to SFT's (the paper's {named:g})", group, named=named)] if group else []
        )
    return found


def teachers(results: Results) -> list[Comparison]:
    """EMA above frozen above live, in skill."""
    found = []
    for better, other in (("ema", "base"), ("ema", "live"), ("base", "live")):
        sides = [
            {
                "name": {"base": "frozen"}.get(kind, kind),
                "set": "quiz",
                "method": "sdft",
                "size": None,
                "variant": None if kind == "base" else kind,
            }
            for kind in (better, other)
        ]
        found += results.compare(f"{sides[0]['name']} above {sides[1]['name']}", "skill", "learn", *sides)
    return found


def skip(results: Results) -> list[Comparison]:
    """The student says the teacher's preface less often where the first tokens are left out of the loss.

    Nothing is compared where the teacher itself does not say it: then there is nothing to leak.
    """
    if any(r["figures"]["teacher leaked"] < LEAKS for r in results.select("leak")):
        return []
    sides = [{"name": f"skip {n}", "variant": f"skip {n}"} for n in (0, 3)]
    return results.compare("answers with the preface: more without skipping", "leaked", "leak", *sides)


CLAIMS: dict[str, tuple[str, Callable[[Results], list[Comparison]], int]] = {
    "learns": ("learns a new skill better", learns, 3),
    "keeps": ("keeps the old ones", keeps, 3),
    "knowledge": ("new knowledge, asked indirectly", knowledge, 3),
    "in a row": ("skills in a row without regression", in_a_row, 4),
    "look-alike": ("the hard case: two look-alike languages", look_alike, 1),
    "sizes": ("stronger teacher, better student", sizes, 3),
    "on-policy": ("needs on-policy samples", on_policy, 12),
    "cost": ("2.5 times the operations, 4 times the time", cost, 2),
    "teachers": ("EMA, frozen, live teacher", teachers, 3),
    "skip": ("skipping the first tokens removes the preface", skip, 1),
}
"""By the name for --claim: the claim, in the paper's order, its comparisons, and how many they are."""


def judge(lines: Sequence[Line], names: Sequence[str] = tuple(CLAIMS)) -> list[dict[str, Any]]:
    """Each claim's verdict with the figures it rests on."""
    results = Results(lines)
    found = []
    for name in names:
        title, comparisons_of, wanted = CLAIMS[name]
        comparisons = comparisons_of(results)
        ours, other, intervals = {}, {}, {}
        for c in comparisons:
            sides = {g.name: g for g in (c.better, c.other) if g is not None}
            first = sides.get("SDFT", c.better)
            rest = [g for g in sides.values() if g is not first]
            ours[c.what] = first.median
            other[c.what] = rest[0].median if rest else c.named if c.limit is None else c.limit
            intervals[c.what] = {n: g.interval for n, g in sides.items()} | {"state": c.state}
        groups = [g for c in comparisons for g in (c.better, c.other) if g is not None]
        found.append(
            {
                "claim": name,
                "title": title,
                "holds": verdict(comparisons, wanted),
                "measured": f"{len(comparisons)} of {wanted}",
                "sdft": ours,
                "sft": other,
                "intervals": intervals,
                "seeds": min((g.seeds for g in groups), default=0),
                "seconds": round(sum(r["figures"]["seconds"] for r in _used(results, name)), 1),
            }
        )
    return found


def _plain(line: Line) -> bool:
    return line["task"]["method"] == "sdft" and _variant(line) is None


def _variant(line: Line) -> str | None:
    return line["task"].get("variant")


def _used(results: Results, name: str) -> list[Line]:
    """The lines that a claim rests on, SFT's sweep aside."""
    kinds = {
        "knowledge": "knowledge",
        "in a row": "in a row",
        "look-alike": "look-alike",
        "cost": "cost",
        "skip": "leak",
    }
    lines = results.select(kinds.get(name, "learn"))
    if name == "sizes":
        return [r for r in lines if r["task"]["set"] == "toolbox"]
    if name in ("teachers", "on-policy"):
        mine = [r for r in lines if r["task"]["set"] in FOLLOWED and "size" not in r["task"]]
        if name == "on-policy":
            return [r for r in mine if r["task"]["method"] in OFFLINE or _plain(r) or _variant(r) == GENTLY]
        return [r for r in mine if r["task"]["method"] == "sdft" and r["task"]["set"] == "quiz"]
    if name in ("learns", "keeps"):
        mine = [r for r in lines if "size" not in r["task"] and r["task"]["set"] in SKILLS]
        return [r for r in mine if r["task"]["method"] == "sft" or _plain(r)]
    return lines


def table(claims: Sequence[dict[str, Any]]) -> str:
    """The claims as a Markdown table, a line for each comparison."""
    rows = ["| claim | holds | comparison | it | against | seeds |", "|---|---|---|---|---|---|"]
    for claim in claims:
        title, holds = f"{claim['title']} (`{claim['claim']}`)", f"**{claim['holds'] or 'not run'}**"
        if claim["holds"] and len(set(claim["measured"].split(" of "))) > 1:
            holds += f" ({claim['measured']} measured)"
        if not claim["intervals"]:
            rows.append(f"| {title} | {holds} | | | | 0 |")
        for what, sides in claim["intervals"].items():
            figures = [(n, s) for n, s in sides.items() if n != "state"]
            figures.sort(key=lambda side: side[0] != "SDFT")
            said = [
                f"{n} {middle:.2f} ({low:.2f} to {high:.2f})"
                for (n, (low, high)), middle in zip(figures, (claim["sdft"][what], claim["sft"][what]), strict=False)
            ]
            against = said[1] if len(said) > 1 else f"{claim['sft'][what]:.2f}"
            rows.append(f"| {title} | {holds} | {what}: {sides['state']} | {said[0]} | {against} | {claim['seeds']} |")
            title = holds = ""
    return "\n".join(rows)
