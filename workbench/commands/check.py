"""workbench check DEMOS: the teacher check, without any training."""

from __future__ import annotations

import argparse
import random
from typing import Any

from workbench.commands import screen
from workbench.commands.options import add_data, add_model, add_settings, load_model, read_data, settings_from
from workbench.decoding import decoder_for
from workbench.demonstrations import split
from workbench.errors import InputError
from workbench.evaluation import Exam, get_scorer, verdict
from workbench.events import Checked, Measure
from workbench.models import POCKET
from workbench.training.batches import make_prompts


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_data(parser)
    add_model(parser)
    parser.add_argument("--rows", type=int, default=100, help="most rows to ask (default: 100)")
    parser.add_argument("--scorer", default="contains", help="how an answer is scored (default: contains)")
    add_settings(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Ask the base without and with the demonstration."""
    if options.rows < 1:
        raise InputError(f"--rows is {options.rows}.", "Give it 1 or more.")
    reading = read_data(options)
    settings = settings_from(options, options.model == POCKET)
    get_scorer(options.scorer)
    split(reading.rows, seed=settings.optim.seed)  # what could not be taught is refused here already
    for note in reading.notes:
        screen.say(note)
    rows = [row for row in reading.rows if not row.keep]
    loaded = load_model(options)
    prompts = make_prompts(loaded.tokenizer, settings)
    longest = settings.rollout.max_new_tokens
    tokens = prompts.tokenise_all(rows, loaded.longest, longest)
    scored = [row for row in rows if row.answer is not None]
    random.Random(settings.optim.seed).shuffle(scored)
    exam = Exam(loaded, prompts, scored[: options.rows], scorer=options.scorer, longest=longest)
    base = teacher = None
    if exam.size:
        decoder = decoder_for(loaded.model)
        base, teacher = exam.sit(decoder).measure, exam.sit(decoder, shown=True).measure
    word, advice = verdict(base, teacher)
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
