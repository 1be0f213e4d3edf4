"""What benchmarks/frontier.py makes of its runs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import frontier  # noqa: E402

DONE = [
    (("quiz", "sdft", "0", "0"), [{"step": 25, "skill": 0.4, "retention": 1.0}]),
    (("quiz", "sdft", "0", "1"), [{"step": 25, "skill": 0.9, "retention": 0.95}]),
    (("quiz", "sdft", "1", "0"), [{"step": 25, "skill": 0.6, "retention": 0.99}]),
    (("quiz", "sdft", "2", "0"), [{"step": 25, "skill": 0.8, "retention": 0.2}]),
    (("quiz", "sft", "0", "0"), [{"step": 25, "skill": 0.1, "retention": 0.97}]),
]


def test_best_is_the_most_skill_of_what_keeps_enough_over_all_settings_of_a_seed() -> None:
    found = frontier.by_set(DONE)
    assert list(found) == ["quiz"] and list(found["quiz"]) == ["sdft", "sft"] and len(found["quiz"]["sdft"]) == 3
    most = frontier.frontier(list(found["quiz"]["sdft"].values()))
    assert most["0.98"] == [0.4, 0.0, 0.6], "a seed of which no point keeps so much has learned nothing"
    assert most["0.95"] == [0.6, 0.0, 0.9], "what keeps just so much counts"
    assert most["0"] == [0.8, 0.6, 0.9]


def test_the_sweep_goes_from_too_gentle_to_ruinous_and_is_the_same_for_both() -> None:
    rates = sorted({setting["lr"] for setting in frontier.SETTINGS})
    assert rates[0] == 1e-3 and rates[-1] >= 1e-2 and len(frontier.SETTINGS) == 2 * len(rates)
    assert frontier.COMPARED == ("sdft", "sft") and frontier.MEASURED[-1] == frontier.BUDGET["steps"]
