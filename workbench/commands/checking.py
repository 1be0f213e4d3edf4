"""The part of `workbench check` that needs the model."""

from __future__ import annotations

import argparse
import random
from typing import Any

from workbench.commands import screen
from workbench.commands.options import load_model, settings_from
from workbench.decoding import decoder_for
from workbench.demonstrations import Reading, split
from workbench.evaluation import Exam, refuse_unscorable, verdict
from workbench.events import Checked, Measure
from workbench.groups import Groups
from workbench.models import POCKET
from workbench.runs.fitting import asked_together
from workbench.training.batches import make_prompts


def ask(options: argparse.Namespace, reading: Reading) -> dict[str, Any]:
    """Ask the base without and with the demonstration."""
    settings = settings_from(options, options.model == POCKET)
    refuse_unscorable(reading.rows, options.scorer)
    split(reading.rows, seed=settings.optim.seed)  # what could not be taught is refused here already
    for note in reading.notes:
        screen.say(note)
    rows = [row for row in reading.rows if not row.keep]
    loaded = load_model(options)
    prompts = make_prompts(loaded.tokenizer, settings)
    longest = settings.rollout.max_new_tokens
    # As they stand in the file, so that a row without an id is called by its place there.
    tokens = [t for t in prompts.tokenise_all(reading.rows, loaded.longest, longest) if not t.row.keep]
    scored = [row for row in rows if row.answer is not None]
    random.Random(settings.optim.seed).shuffle(scored)
    groups = Groups(asked_together(loaded, settings))
    exam = Exam(loaded, prompts, scored[: options.rows], scorer=options.scorer, longest=longest, groups=groups)
    base = teacher = None
    lost = 0
    if exam.size:
        decoder = decoder_for(loaded.model)
        alone, shown = exam.sit(decoder), exam.sit(decoder, shown=True)
        base, teacher, lost = alone.measure, shown.measure, alone.cut_off + shown.cut_off
    word, advice = verdict(base, teacher, lost)
    screen.show_check(Checked(base, teacher, None, word, advice))
    return {
        "model": loaded.name,
        "n": exam.size,
        "base": _value(base),
        "teacher": _value(teacher),
        "interval": {"base": _bounds(base), "teacher": _bounds(teacher)},
        "verdict": word,
        "advice": advice,
        "tokens": {
            "student_max": max(len(t.student) for t in tokens),
            "teacher_max": max(len(t.teacher) for t in tokens),
        },
    }


def _value(measure: Measure | None) -> float | None:
    return None if measure is None else round(measure.value, 4)


def _bounds(measure: Measure | None) -> list[float] | None:
    return None if measure is None else [round(measure.low, 4), round(measure.high, 4)]
