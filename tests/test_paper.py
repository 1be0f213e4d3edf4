"""The rules by which benchmarks/paper.py says whether a claim holds, its resuming, and the table in docs/paper.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import paper_tasks  # noqa: E402
from paper import best, code_version, design, left_to_do, main, read_results, tuning  # noqa: E402
from paper_claims import CLAIMS, Comparison, Group, judge, table, verdict  # noqa: E402
from paper_plots import BEGINS, ENDS, with_table  # noqa: E402

SETS = ("quiz", "toolbox", "remedies", "events")
TUNED = {name: {"sdft": {"lr": 1e-3}, "sft": {"lr": 5e-3, "targets": "all-linear"}} for name in SETS}


def group(*values: float, seeds: int = 3) -> Group:
    return Group("x", values, seeds)


@pytest.mark.parametrize(
    ("better", "other", "state"),
    [
        (group(0.8, 0.9, 0.95), group(0.5, 0.6, 0.79), "clear"),
        (group(0.8, 0.9, 0.95), group(0.5, 0.6, 0.8), "leaning"),
        (group(0.8, 0.9, 0.95), group(0.9, 0.9, 0.99), "against"),
        (group(0.8, 0.9, seeds=2), group(0.1, 0.2, seeds=2), "leaning"),
    ],
)
def test_a_comparison_is_clear_only_where_intervals_of_three_seeds_do_not_touch(
    better: Group, other: Group, state: str
) -> None:
    assert Comparison("c", better, other).state == state


@pytest.mark.parametrize(
    ("lost", "state"),
    [((0.0, 0.02, 0.05), "clear"), ((0.0, 0.02, 0.06), "leaning"), ((0.0, 0.06, 0.06), "against")],
)
def test_a_loss_is_held_against_its_limit(lost: tuple[float, ...], state: str) -> None:
    assert Comparison("c", group(*lost), limit=0.05).state == state


@pytest.mark.parametrize(
    ("ratio", "seeds", "state"),
    [
        ((2.0, 2.2, 2.6), 3, "clear"),
        ((2.0, 2.2, 2.6), 2, "leaning"),
        ((1.1, 1.2, 2.4), 3, "against"),
        ((2.6, 3.0, 3.0), 3, "against"),
    ],
)
def test_a_number_that_a_claim_names_lies_in_the_interval_or_not(
    ratio: tuple[float, ...], seeds: int, state: str
) -> None:
    assert Comparison("c", group(*ratio, seeds=seeds), named=2.5).state == state


@pytest.mark.parametrize(
    ("operations", "time", "holds"), [(2.5, 4.0, "yes"), (2.5, 1.1, "partly"), (1.1, 1.1, "no"), (4.0, 2.5, "no")]
)
def test_the_cost_is_held_against_the_papers_own_figures(operations: float, time: float, holds: str) -> None:
    lines = [
        {"task": task, "figures": {"operations ratio": operations, "time ratio": time, "seconds": 1}, "code": "c"}
        for seed in range(3)
        for task in design(["cost"], seed, TUNED, {})
    ]
    (claim,) = judge(lines, ["cost"])
    assert claim["holds"] == holds and list(claim["sft"].values()) == [2.5, 4.0]


def test_a_claim_holds_if_all_of_it_is_clear_and_not_at_all_if_none_leans_its_way() -> None:
    clear = Comparison("a", group(0.8, 0.8, 0.8), group(0.1, 0.1, 0.1))
    leaning = Comparison("b", group(0.1, 0.3, 0.3), group(0.2, 0.2, 0.2))
    against = Comparison("c", group(0.1, 0.1, 0.1), group(0.2, 0.2, 0.2))
    assert verdict([clear, clear], 2) == "yes"
    assert verdict([clear, leaning], 2) == "partly"
    assert verdict([clear, against], 2) == "partly"
    assert verdict([against, against], 2) == "no"
    assert verdict([], 2) is None
    assert verdict([clear], 2) == "partly"


def made_up(code: str = "c1") -> list[dict[str, Any]]:
    """Three seeds of hand-made results: SDFT learns two sets clearly better, and one as well."""
    lines = []
    for seed in range(3):
        for task in design(["learns", "teachers"], seed, TUNED, {}):
            sdft = task["method"] == "sdft"
            skill = 0.9 if sdft or task["set"] == "remedies" else 0.5
            if task.get("variant") == "live":
                skill = 0.2
            figures = {"skill": skill + seed / 100, "retention": 0.95 if sdft else 0.6, "seconds": 2.0}
            lines.append({"task": task, "figures": figures, "code": code})
    return lines


def test_the_claims_are_read_off_the_results() -> None:
    found = {claim["claim"]: claim for claim in judge(made_up())}
    assert list(found) == list(CLAIMS)
    assert {name: claim["holds"] for name, claim in found.items() if claim["holds"]} == {
        "learns": "partly",
        "keeps": "yes",
        "teachers": "partly",
    }
    learned = found["learns"]
    assert {"claim", "holds", "sdft", "sft", "intervals", "seeds", "seconds"} <= set(learned)
    assert learned["sdft"]["quiz"] == 0.91 and learned["sft"]["quiz"] == 0.51
    assert learned["intervals"]["remedies"]["state"] == "against"
    assert learned["intervals"]["quiz"]["SFT"] == [0.5, 0.52]
    assert learned["seeds"] == 3
    assert learned["seconds"] == 3 * 6 * 2.0
    assert found["teachers"]["intervals"]["frozen above live"]["state"] == "clear"
    assert "| **partly** | quiz: clear | SDFT 0.91 (0.90 to 0.92) | SFT 0.51 (0.50 to 0.52) | 3 |" in table([learned])


@pytest.mark.parametrize(("teacher", "holds"), [(1.0, "yes"), (0.0, None)])
def test_skipping_is_judged_only_where_the_teacher_has_something_to_leak(teacher: float, holds: str | None) -> None:
    lines = [
        {
            "task": task,
            "figures": {
                "leaked": 0.0 if task["settings"]["skip_tokens"] else 0.9,
                "teacher leaked": teacher,
                "seconds": 1,
            },
            "code": "c",
        }
        for seed in range(3)
        for task in design(["skip"], seed, TUNED, {})
    ]
    assert judge(lines, ["skip"])[0]["holds"] == holds


def test_results_of_other_code_do_not_count() -> None:
    assert judge(made_up("old") + made_up("new")[:1])[0]["holds"] is None


def test_a_task_is_run_again_only_if_its_settings_or_the_code_changed(tmp_path: Path) -> None:
    tasks = design(["learns"], 0, TUNED, {})
    file = tmp_path / "results.jsonl"
    lines = [{"task": task, "figures": {}, "code": "c1"} for task in tasks[:4]]
    # The last line is what a process leaves that was stopped while it wrote.
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"task": {"kind"')
    results = read_results(file)
    assert len(results) == 4
    assert left_to_do(tasks, results, "c1") == tasks[4:]
    assert left_to_do(tasks, results, "c2") == tasks
    other = {**TUNED, "quiz": {**TUNED["quiz"], "sft": {"lr": 2e-3}}}
    changed = design(["learns"], 0, other, {})
    again = [t for t in left_to_do(changed, results, "c1") if t not in tasks[4:]]
    assert [(t["set"], t["method"]) for t in again] == [("quiz", "sft")]


def test_claims_share_their_tasks_and_all_six_orders_are_taken() -> None:
    assert design(["learns", "keeps"], 0, TUNED, {}) == design(["learns"], 0, TUNED, {})
    orders = {tuple(t["order"]) for t in design(["in a row"], 0, TUNED, {}) if t["method"] == "sdft"}
    assert len(orders) == 6


def test_each_method_takes_the_settings_that_learn_and_keep_most_and_of_equals_the_gentlest() -> None:
    tasks = tuning([("quiz", "sdft"), ("quiz", "sft")])
    found = [(0.5, 1), (0.7, 1), (0.8, 0.9), (0.1, 1), (0.9, 0.5), (0.7, 0.9)] + [(0.1, 1)] * 4 + [(0.4, 0.8), (0.9, 0)]
    lines = [
        {"task": task, "figures": {"validation": skill, "retention": kept}, "code": "c"}
        for task, (skill, kept) in zip(tasks, found, strict=True)
    ]
    assert best(lines, "c") == {"quiz": {"sdft": {"lr": 2e-3}, "sft": {"lr": 2e-3, "targets": "all-linear"}}}
    assert best(lines[::-1], "c") == best(lines, "c")
    assert best(lines[:-1], "c") == {"quiz": {"sdft": {"lr": 2e-3}}} and best(lines, "other") == {}


@pytest.mark.parametrize("method", ["offline distillation", "sft on teacher samples"])
def test_offline_methods_teach(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(paper_tasks.BUDGET, "steps", 25)
    rows = paper_tasks.data("zorbic", 0).teaching[:16]
    roles = paper_tasks.teach(method, paper_tasks.load("pocket"), rows, 0, lr=5e-3)
    assert paper_tasks.share_on(roles.student_decoder, roles.loaded, rows) > 0.3


def test_every_kind_of_task_runs_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    for budget in (paper_tasks.BUDGET, paper_tasks.KEEPING):
        monkeypatch.setitem(budget, "steps", 2)
    found = {}
    for task in (
        {"kind": "tune", "set": "events", "method": "sdft", "settings": {"lr": 1e-3}},
        {"kind": "learn", "set": "quiz", "method": "offline distillation", "settings": {"lr": 1e-3}, "seed": 0},
        {"kind": "learn", "set": "quiz", "method": "sft on teacher samples", "settings": {"lr": 1e-3}, "seed": 0},
        {"kind": "learn", "set": "quiz", "method": "sft", "settings": {"targets": "all-linear"}, "seed": 0},
        {"kind": "knowledge", "set": "events", "method": "sft", "settings": {}, "seed": 0},
        {"kind": "in a row", "order": ["quiz", "remedies"], "method": "sdft", "settings": {}, "keep": True, "seed": 0},
    ):
        found[task["kind"], task.get("method")] = paper_tasks.KINDS[str(task["kind"])](task)
    assert found["learn", "offline distillation"]["retention"] > 0.95
    assert found["learn", "sft on teacher samples"]["retention"] > 0.95
    assert found["knowledge", "sft"]["teacher indirect"] > 0.9
    assert {name: len(scores) for name, scores in found["in a row", "sdft"]["skill"].items()} == {
        "quiz": 2,
        "remedies": 1,
    }


def test_the_version_of_the_code_changes_with_a_file_that_decides(tmp_path: Path) -> None:
    (tmp_path / "workbench").mkdir()
    file = tmp_path / "workbench" / "sampling.py"
    file.write_text("a")
    first = code_version(tmp_path)
    file.write_text("b")
    assert code_version(tmp_path) != first


def test_the_page_says_what_the_committed_results_say() -> None:
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    drawn = table(judge(read_results(ROOT / "benchmarks" / "results" / "paper.jsonl")))
    assert page == with_table(page, drawn)
    assert page.count(BEGINS) == page.count(ENDS) == 1


def test_the_report_is_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in made_up()))
    monkeypatch.setattr(sys, "argv", ["paper.py", "--report", "--json", "--claim", "keeps", "--results", str(file)])
    main()
    (claim,) = json.loads(capsys.readouterr().out)["claims"]
    assert (claim["claim"], claim["holds"]) == ("keeps", "yes")
