"""Views: events as HTML and tables, escaped, readable in light and dark, small however long a run is."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.fake_run import measure, sample_of
from workbench import views
from workbench.events import (
    Checked,
    Evaluated,
    Event,
    Measure,
    RolloutSample,
    RunEnded,
    RunStarted,
    Step,
    TokenChoices,
)
from workbench.views import columns, css, curves, meters, words
from workbench.views.text import clip, plain, visible
from workbench.views.token_map import pieces, token_map
from workbench.worker import Status

EVIL = '<img src=x onerror=alert(1)></script>"\u202e\u202b' + "a" * 100_000
ALLOWED = {"div", "span", "b", "i", "bdi", "p", "svg", "path", "polyline"}


class Reader(HTMLParser):
    """The elements, attributes and words of some HTML; refuses what is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.elements if name in (a.get("class") or "").split()]


def harmless(html: str) -> Reader:
    """Read HTML and see that nothing of a user's became an element or an attribute."""
    read = Reader(html)
    assert {tag for tag, _ in read.elements} <= ALLOWED
    assert not [a for _, attributes in read.elements for a in attributes if a.startswith("on") or a == "src"]
    assert "\u202e" not in html and "\u202b" not in html
    return read


def a_step(number: int, steps: int = 200, loss: float = 1.0, **other: Any) -> Step:
    seconds = {"sample": 0.2, "teacher": 0.1, "student": 0.1, "update": 0.1}
    return Step(number, steps, loss, 1e-3, 1.0, 100, 8.0, seconds, 0.5, number / steps, **other)


def a_run(taken: int, steps: int = 200, every: int = 50) -> list[Event]:
    """A run of so many steps, whose retention falls by a tenth at each measurement."""
    made: list[Event] = [RunStarted("zorbic", "sdft", "pocket", steps, 80, 40, 0, 50)]
    made.append(Checked(measure(0, 40), measure(38, 40), measure(50, 50), "ready", "Good to teach."))
    for number in range(1, taken + 1):
        made.append(a_step(number, steps, 2.0 / number))
        if number % every == 0:
            kept = max(0, 50 - 5 * (number // every))
            made.append(Evaluated(number, measure(round(40 * number / steps), 40), measure(kept, 50), 2.5))
    if taken == steps:
        made.append(RunEnded(steps, 100.0))
    return made


def a_map(tokens: list[str], nats: list[float], **other: Any) -> RolloutSample:
    return RolloutSample("1", "How?", "".join(tokens), tuple(tokens), tuple(nats), **other)


# Token map


def test_each_token_has_its_class_its_number_and_both_lists() -> None:
    nats = [0.0, 0.019, 0.02, 0.06, 0.15, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 40.0]
    choices = tuple(
        TokenChoices(((f" s{i}", 0.62), ("b", 0.004), *[("c", 0.1)] * 4), ((f" t{i}", 1.0), ("u", 0.0)))
        for i in range(12)
    )
    made = harmless(token_map(a_map([f" w{i}" for i in range(12)], nats, choices=choices), "Step 3"))
    spans = [a for a in made.all("tk") if "tabindex" in a]
    classes = [(a["class"] or "").split()[1] for a in spans]
    assert classes == [f"kl-{i}" for i in (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)]
    assert ["wb-strong" in (a["class"] or "") for a in spans] == [n >= 1 for n in nats]
    assert len(made.all("wb-tip")) == 12
    assert "w9 2.00 nats" in made.words and "Step 3" in made.words
    assert "Student\n\u200762%  s3\n\u2007<1% b" in made.words and "Teacher\n100%  t3\n\u2007<1% u" in made.words
    assert made.words.count("\u200710% c") == 12 * 3  # five choices, not the sixth
    assert "The teacher disagrees most at \u2018w11\u2019 (40.00 nats)." in made.words


def test_a_character_of_several_tokens_stands_with_the_first_of_them() -> None:
    part = "\ufffd"
    tokens = (" k", "l", part, part, ".", f" {part}", part, part, "<end>")
    sample = RolloutSample("1", "How?", "kl\u00f1. \U0001f44d", tokens, tuple(map(float, range(9))))
    assert pieces(sample) == [" k", "l", "\u00f1", "\u203f", ".", " \U0001f44d", "\u203f", "\u203f", "<end>"]
    choices = tuple(TokenChoices(((part, 0.6), ("b", 0.4)), ((part, 1.0),)) for _ in tokens)
    made = token_map(replace(sample, choices=choices))
    assert part not in made and "60% part of a character" in made
    assert pieces(a_map([part, "a", part], [0, 0, 0])) == [part, "a", part]  # the model said U+FFFD itself


def test_what_cannot_be_seen_is_visible() -> None:
    assert visible("  ") == "\u2423\u2423" and visible("\n\n") == "\u23ce\u23ce" and visible("") == "\u2205"
    assert visible(" a\tb\n") == " a\u21e5b\u23ce"
    assert visible("a\u202eb\x00") == "aU+202EbU+0000"
    assert plain("\u0639\U0001f468\u200d\U0001f469") == "\u0639\U0001f468\u200d\U0001f469"  # joined emoji stay whole
    made = token_map(a_map(["a", "\n", " "], [0, 0, 0]))
    assert ">\u23ce<" in made and "</span>\n<span" in made and ">\u2423<" in made


def test_a_keep_row_says_so_and_agreement_is_said() -> None:
    assert "Right answer:</span> <bdi>&lt;b&gt;" in token_map(a_map(["a"], [0.01]), right="<b>")
    assert "Right answer" not in token_map(a_map(["a"], [0.01]))
    kept = token_map(a_map(["a"], [0.01], keep=True))
    assert "keep row" in kept and "almost the same at every token (at most 0.01 nats apart)" in kept
    assert "keep row" not in token_map(a_map(["a"], [0.01]))
    assert "The answer is empty." in token_map(a_map([], []))


def test_odd_numbers_do_not_break_the_map() -> None:
    made = harmless(token_map(a_map(["a", "b", "c", "d"], [math.nan, math.inf, -1.0])))
    assert [a["class"] for a in made.all("tk") if "tabindex" in a] == [
        "tk kl-10 wb-strong",
        "tk kl-10 wb-strong",
        "tk kl-0",
        "tk kl-0",
    ]


def test_a_long_answer_stays_small_and_has_few_tab_stops() -> None:
    tokens, nats = [f" word{i}" for i in range(3000)], [0.5 if i % 100 == 0 else 0.0 for i in range(3000)]
    choices = tuple(TokenChoices(((" a", 0.5),) * 5, ((" b", 0.5),) * 5) for _ in range(96))
    html = token_map(a_map(tokens, nats, choices=choices), listed=24)
    made = harmless(html)
    assert "and 2,488 more tokens" in made.words
    assert sum("tabindex" in a for a in made.all("tk")) == 6
    assert made.words.count("Student\n") == 24
    assert len(html) < 60_000


# Meters


def test_a_meter_holds_its_share_with_count_and_interval() -> None:
    html = meters.meter("Skill", Measure(56 / 60, 60, 0.842, 0.974), "skill", mark=(1.0, "the teacher"))
    made = harmless(html)
    assert "93% (56 of 60, 84-97%)" in made.words and "the teacher, 100%" in made.words
    assert made.elements[0][1]["id"] == "skill"
    bar = next(a for _, a in made.elements if a.get("role") == "meter")
    assert bar["aria-valuenow"] == "93" and bar["aria-label"] == "Skill"
    assert bar["aria-valuetext"] == "93% (56 of 60, 84-97%)"
    assert "not measured yet" in meters.meter("Skill", None, "skill")


def test_the_meters_begin_with_what_was_measured_before() -> None:
    assert Reader(meters.skill_and_retention([])).words.count("not measured yet") == 2
    start = Reader(meters.skill_and_retention(a_run(3))).words
    assert "0% (0 of 40" in start and "100% (50 of 50" in start and "Measured before teaching." in start
    later = Reader(meters.skill_and_retention(a_run(120))).words
    assert "50% (20 of 40" in later and "80% (40 of 50" in later
    assert "Measured at step 100. Before: 0%." in later


# Curves


def test_skill_frame_is_tidy_and_starts_before_teaching() -> None:
    frame = curves.skill_frame(a_run(120))
    assert list(frame.columns) == ["step", "share", "what"]
    skill = frame[frame.what == "skill"]
    assert list(skill.step) == [0, 50, 100] and list(skill.share) == [0.0, 0.25, 0.5]
    assert list(frame[frame.what == "retention"].share) == [1.0, 0.9, 0.8]
    assert curves.skill_frame([]).empty


def test_a_long_run_is_no_longer_on_the_page() -> None:
    events = a_run(5000, 5000, every=5)
    assert len(curves.skill_frame(events)) == 300
    losses = curves.loss_frame(events)
    assert len(losses[losses.what == "loss"]) <= 150
    first, last = curves.skill_frame(events).step.min(), curves.skill_frame(events).step.max()
    assert (first, last) == (0, 5000)
    for drawn in (curves.skill_chart(events), curves.loss_chart(events)):
        assert len(drawn) < 8_000
    assert len(curves.sparkline(events)) < 1_500


def test_the_values_of_the_loss_are_means_of_all_steps() -> None:
    events: list[Event] = [a_step(i, 300, float(i), keep_loss=0.5) for i in range(1, 301)]
    frame = curves.loss_frame(events, at_most=150)
    loss = frame[frame.what == "loss"]
    assert list(loss.value[:2]) == [1.5, 3.5] and list(loss.step[:2]) == [2, 4]
    assert set(frame[frame.what == "loss on keep rows"].value) == {0.5}
    assert curves.loss_frame([]).empty


def test_charts_say_in_words_what_they_show() -> None:
    made = harmless(curves.skill_chart(a_run(200)))
    said = "Skill went from 0% to 100% by step 200. Retention went from 100% to 60% by step 200."
    assert said in made.words
    assert any(a.get("aria-label") == said for _, a in made.elements)
    assert "Nothing was measured yet." in curves.skill_chart([])
    assert "No step was taken yet." in curves.loss_chart([])
    loss = Reader(curves.loss_chart(a_run(200))).words
    assert "The loss is" in loss and "At 100% of the tokens" in loss
    dipped = [*a_run(100), Evaluated(150, measure(40, 40), measure(50, 50), 1.0)]
    assert "lowest 80% at step 100" in curves.skill_chart(dipped)


def test_a_loss_that_is_no_number_leaves_a_gap() -> None:
    html = curves.loss_chart([a_step(1), a_step(2, loss=math.nan), a_step(3)])
    assert "nan," not in html and ",nan" not in html
    assert curves.loss_chart([a_step(1, loss=math.nan)])


def test_overlay_tells_runs_apart_without_colour() -> None:
    html = curves.overlay({"one": a_run(200), EVIL: a_run(100), "empty": []})
    made = harmless(html)
    assert "Skill, one" in made.words and "Skill of empty was not measured." in made.words
    assert len(html) < 20_000
    lines = [a["class"] for tag, a in made.elements if tag == "polyline"]
    assert lines[:2] == ["wb-l wb-c1", "wb-l wb-c2 wb-dash"]


def test_curves_that_lie_on_each_other_are_both_seen() -> None:
    html = curves.overlay({"one": a_run(200), "two": a_run(200)})
    elements = harmless(html).elements
    below, above = [(a["class"], a["points"]) for tag, a in elements if tag == "polyline"][:2]
    assert below[1] == above[1]
    assert "wb-dash" not in str(below[0]) and "wb-dash" in str(above[0]), "the one below shows between the dashes"
    dots = [str(a["class"]).split()[1] for tag, a in elements if tag == "path" and "wb-dots" in str(a.get("class"))]
    assert dots[:2] == ["wb-under", "wb-over"]
    broad, small = (
        float(re.findall(rf"\.wb-dots\.{name}{{[^}}]*stroke-width:([\d.]+)", css.CSS)[0]) for name in dots[:2]
    )
    assert broad > small + 3, "and its dots around the others'"


# Columns and words


def test_three_columns_hold_what_each_role_said() -> None:
    html = columns.three_columns(
        {"base": "no", "teacher": "yes", "student": ["a", "b"]}, {"base": "0.2 s"}, {"student": True, "base": False}
    )
    made = harmless(html)
    assert [a["id"] for _, a in made.elements if "id" in a] == ["answer-base", "answer-teacher", "answer-student"]
    assert "\u2713 right" in made.words and "\u2717 wrong" in made.words and "0.2 s" in made.words


def test_states_in_words() -> None:
    teaching = Status(alive=True, state="teaching", run="zorbic", phase="Teaching")
    assert words.state_sentence(a_run(84), teaching) == "Teaching. Step 84 of 200, about 65 s left."
    stopping = Status(alive=True, state="stopping", run="zorbic")
    assert words.state_sentence(a_run(84), stopping).startswith("Stopping: the state is being saved. Step 84 of 200")
    other = Status(alive=True, state="teaching", run="other", phase="Teaching")
    assert words.state_sentence(a_run(84), other) == (
        "Stopped at step 84 of 200; the state is kept. Press Resume to go on."
    )
    assert words.state_sentence(a_run(84), None, elsewhere=True).startswith("Being taught by another process.")
    assert words.state_sentence(a_run(0), None) == "Stopped before the first step. Press Resume to begin."
    assert words.state_sentence(a_run(200), None) == (
        "Finished after 200 steps. Skill went from 0% to 100%; 60% of what it knew is still right. Go on to Compare."
    )
    nothing = [replace(e, skill=measure(0, 50)) if isinstance(e, Evaluated) else e for e in a_run(200)]
    assert "Skill is still 0%" in words.state_sentence(nothing)
    assert words.state_sentence(nothing).endswith("forgot much: teach less strongly, after a look at Check.")
    kept = [replace(e, retention=measure(19, 20)) if isinstance(e, Evaluated) else e for e in nothing]
    assert words.state_sentence(kept).endswith("teach for more steps or more strongly, after a look at Check.")
    imported: list[Event] = [RunStarted("x", "imported", "pocket", 0, 0, 0, 0, 0), RunEnded(0, 0.0)]
    assert words.state_sentence(imported).startswith("Imported, so nothing was measured here.")
    assert words.state_sentence([], Status(alive=True, state="teaching", run="x", phase="Measuring"), run="x") == (
        "Measuring. Getting ready."
    )


def test_retention_of_a_run_on_another_is_of_what_that_one_had_left() -> None:
    begun, checked, *rest = a_run(200)
    assert isinstance(begun, RunStarted) and isinstance(checked, Checked)
    on: list[Event] = [replace(begun, on=EVIL), replace(checked, probes=measure(50, 60)), *rest]
    assert "60% of what <img src=x" in (said := words.state_sentence(on)) and "had left is still right." in said
    read = harmless(meters.skill_and_retention(on))
    assert "Measured at step 200. Of what <img" in read.words and "had left: 50 of the 60 questions." in read.words
    assert "had left)" in harmless(curves.skill_chart(on)).words
    assert "had left" not in meters.skill_and_retention(a_run(200)) + curves.skill_chart(a_run(200))


def test_time_left_counts_the_measurements_too() -> None:
    assert words.seconds_left(a_run(10)) == pytest.approx(95)
    assert words.seconds_left(a_run(50)) == pytest.approx(150 * (50 * 0.5 + 2.5) / 50)
    assert words.seconds_left([]) is None
    said = [words.duration(s) for s in (0.2, 7, 42, 100, 5400, 7800)]
    assert said == ["about 1 s", "about 7 s", "about 40 s", "about 2 min", "about 1 h 30 min", "about 2 h 10 min"]


def test_a_fall_of_retention_is_counted_from_its_best() -> None:
    assert words.fall_of_retention(a_run(20)) is None
    assert words.fall_of_retention(a_run(150)) == (0, 1.0, 0.7, 150)
    level = [*a_run(0), Evaluated(50, None, measure(50, 50), 1.0), Evaluated(100, None, measure(40, 50), 1.0)]
    assert words.fall_of_retention(level) == (50, 1.0, 0.8, 100)


# For all of them


def test_hostile_strings_stay_words() -> None:
    choices = (TokenChoices(((EVIL, 0.5),), ((EVIL, 0.5),)),)
    html = token_map(RolloutSample(EVIL, EVIL, EVIL, (EVIL,), (2.0,), True, choices), EVIL[:60])
    read = harmless(html)
    assert "<img src=x" in read.words and len(html) < 6_000
    harmless(columns.answer_column("base", EVIL, EVIL[:60], elem_id='"><b>'))
    harmless(meters.meter(EVIL[:60], None, '"><b onclick=x>'))
    assert clip("x" * 301).endswith("(1 more characters)")


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours", "classes"), [(css.LIGHT, css.KL_LIGHT), (css.DARK, css.KL_DARK)])
def test_text_stands_out_in_every_class(colours: dict[str, str], classes: tuple[str, ...]) -> None:
    assert len(classes) == 11
    for background in classes:
        assert contrast(colours["text"], background) >= 4.5, background
    for name in ("text", "muted", "right", "wrong"):
        assert contrast(colours[name], colours["panel"]) >= 4.5, name
    assert contrast(colours["text"], colours["warn"]) >= 4.5
    for name in ("skill", "retention", "third", "fourth"):  # lines and bars
        assert contrast(colours[name], colours["panel"]) >= 3, name
        assert contrast(colours[name], colours["bar"]) >= 3, name


def test_the_classes_of_the_map_grow_darker_step_by_step() -> None:
    light, dark = ([luminance(c) for c in classes] for classes in (css.KL_LIGHT, css.KL_DARK))
    assert light == sorted(light, reverse=True) and dark == sorted(dark)
    assert all(f"--wb-kl-{i}:" in views.CSS and f".kl-{i}{{" in views.CSS for i in range(11))


def test_views_need_neither_torch_nor_gradio() -> None:
    code = "import sys, workbench.views; print(sorted({'torch', 'gradio', 'transformers'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_samples_of_a_run_can_be_drawn() -> None:
    made = harmless(token_map(sample_of("1", "How?", "a b c")))
    assert len([a for a in made.all("tk") if "tabindex" in a]) == 3


@pytest.mark.parametrize(
    ("base", "skill", "said"),
    [
        (0, 19, "Go on to Compare."),
        (0, 0, "It has not learned it"),
        (10, 9, "It has not learned it"),
        (20, 8, "It has not learned it"),
        (19, 19, "It could do it before, so there was little to learn. Go on to Compare."),
    ],
)
def test_what_to_do_next_depends_on_what_was_learned(base: int, skill: int, said: str) -> None:
    events = [
        Checked(measure(base, 20), measure(20, 20), None, "ready", ""),
        Evaluated(5, measure(skill, 20), None, 0.1),
    ]
    assert words.what_next(events).startswith(said)
