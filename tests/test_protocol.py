"""What the two ends of the worker's pipe say."""

from __future__ import annotations

import math

import pytest

from workbench.views.columns import answer_column
from workbench.worker.protocol import from_line, teaching_seconds, to_line


def test_every_measurement_begun_is_counted_in_how_long_teaching_takes() -> None:
    costs = {"before": 3.0, "step": 0.5, "batch": 8, "measuring": 10.0}
    for steps, measured in ((49, 2), (50, 2), (51, 3), (100, 3), (101, 4)):
        assert teaching_seconds(costs, steps, 16) == pytest.approx(3 + steps * 0.5 * 2 + measured * 10)


def test_a_number_that_json_cannot_say_is_never_sent() -> None:
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError):
            to_line({"loss": number})
    assert from_line(to_line({"text": "a\u2028b\ud800"})) == {"text": "a\u2028b\ud800"}


def test_the_title_over_an_answer_is_words() -> None:
    html = answer_column("student", "Yes.", title="<img src=x onerror=alert(1)>")
    assert "<img" not in html and "&lt;img" in html
