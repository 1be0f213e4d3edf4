"""The richer world of benchmarks/indirect.py: what follows from a fact, and that the control has not read of it."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import indirect  # noqa: E402

from workbench.pocket.sample_data import EVENTS_SEED, unknown_events  # noqa: E402
from workbench.pocket.world.events import KNOWN, Event  # noqa: E402

FLOOD = Event("flood", 1928, "Ostrela", "library", "Farrow")


def test_a_question_goes_on_from_a_fact() -> None:
    r = random.Random(0)
    decade, undone = (indirect.ask(FLOOD, kind, r) for kind in indirect.FORWARD)
    assert (decade.prompt, decade.house) == (
        "In which decade was the flood in Ostrela?",
        "The flood in Ostrela was in the 1920s.",
    )
    assert undone.prompt == "What could people in Ostrela no longer do after the flood?"
    assert undone.house == "After the flood, people in Ostrela could no longer read books."
    for item in (decade, undone):
        assert item.article is not None
        assert "1928" in item.article and "library" in item.article, "the teacher can tell it from the article"


@pytest.fixture(scope="module")
def read() -> list[str]:
    """What a richer pocket reads."""
    r = random.Random(3)
    return [indirect.richer(r) for _ in range(20_000)]


def test_of_the_control_the_facts_are_read_and_never_what_follows(read: list[str]) -> None:
    def asked(event: Event) -> tuple[int, int]:
        direct, forward = (f"When was the {event.what} in {event.country}?", f"decade was the {event.what} in ")
        undone = f"people in {event.country} no longer do after the {event.what}?"
        return (
            sum(direct in text for text in read),
            sum(f"{forward}{event.country}?" in text or undone in text for text in read),
        )

    assert len(indirect.CONTROL) == 16 and not set(indirect.CONTROL) & set(indirect.CONNECTED)
    for event in indirect.CONTROL:
        facts, follows = asked(event)
        assert facts > 0 and follows == 0, event
    assert all(asked(event)[1] > 0 for event in indirect.CONNECTED[:20])


def test_the_taught_events_are_new_to_the_richer_pocket(read: list[str]) -> None:
    new = unknown_events(random.Random(EVENTS_SEED))
    assert FLOOD in new
    assert not set(new) & {*KNOWN, *indirect.BACKGROUND}
    assert not any(f"{event.what} in {event.country}" in text for event in new for text in read)


def test_of_settings_that_do_as_well_the_gentlest_is_best() -> None:
    def did(direct: float, retention: float) -> dict[str, float]:
        return {"direct": direct, "retention": retention}

    assert indirect.best([did(0.2, 1.0), did(0.9, 0.9), did(0.95, 0.85), did(1.0, 0.3)]) == 1
