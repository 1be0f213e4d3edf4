"""workbench compare RUN --prompt P: base, teacher and student on one question."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import Any

from workbench.commands import screen
from workbench.commands.options import add_runs, runs_folder
from workbench.demonstrations import Demonstration
from workbench.demonstrations.record import row_of
from workbench.errors import InputError
from workbench.evaluation import after_thoughts, answer, get_scorer
from workbench.runs import Run, open_run
from workbench.runs.session import student_at
from workbench.sampling import Choice
from workbench.settings import OptimSettings, Settings
from workbench.training.batches import make_prompts


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run", metavar="RUN", help="name or folder of a run")
    add_runs(parser)
    parser.add_argument("--prompt", required=True, help="the question")
    parser.add_argument("--demonstration", help="what the teacher is shown (default: the run's own for this question)")
    parser.add_argument("--step", type=int, help="the student as it was at this checkpoint (default: the latest)")
    parser.add_argument("--temperature", type=float, default=0.0, help="sampling temperature (default: 0, greedy)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Ask all three."""
    if not options.prompt.strip():
        raise InputError("--prompt is empty.", "Write the question after --prompt.")
    if options.demonstration is not None and not options.demonstration.strip():
        raise InputError("--demonstration is empty.", "Write what the teacher is shown, or leave the flag out.")
    if not 0 <= options.temperature < math.inf:
        raise InputError(f"--temperature is {options.temperature}.", "Give it 0 or more.")
    OptimSettings(seed=options.seed)  # refuses one that no generator takes
    found = open_run(options.run, runs_folder(options))
    row = _row(found, options.prompt, options.demonstration)
    roles = student_at(found, options.step)
    settings = Settings.from_dict(found.config["settings"])
    prompts = make_prompts(roles.loaded.tokenizer, settings)
    longest = settings.rollout.max_new_tokens
    tokens = prompts.tokenise_question(row, roles.loaded.longest, longest)
    student_prompt = prompts.render(prompts.student_messages(row))
    teacher_prompt = prompts.render(prompts.teacher_messages(row))
    asked = {
        "base": (roles.base_decoder, tokens.student),
        "teacher": (roles.teacher_decoder(settings.teacher.teacher), tokens.teacher),
        "student": (roles.student_decoder, tokens.student),
    }
    texts = {
        role: answer(
            decoder,
            roles.loaded,
            [ids],
            longest=longest,
            choice=Choice(temperature=options.temperature),
            seed=options.seed,
        )[0]
        for role, (decoder, ids) in asked.items()
    }
    hit = after_thoughts(get_scorer(str(found.config.get("scorer") or "contains")), roles.loaded.tokenizer)
    right = {role: None if row.answer is None else hit(text, row.answer) for role, text in texts.items()}
    if row.demonstration is None and row.context is None:
        screen.say("No demonstration is known for this question, so the teacher read the question alone.")
        screen.say('Show it one: --demonstration "..."')
    for role, text in texts.items():
        screen.say(f"{role:<8} {_MARKS[right[role]]}{text}")
    if row.answer is not None:
        screen.say(f"The right answer: {row.answer}")
    return {
        **texts,
        "prompts": {"base": student_prompt, "teacher": teacher_prompt, "student": student_prompt},
        "right": right,
        "answer": row.answer,
    }


_MARKS = {True: "right  ", False: "wrong  ", None: ""}


def _row(found: Run, prompt: str, demonstration: str | None) -> Demonstration:
    """The question as a row: the run's own for the same question, with the demonstration given if there is one."""
    row = row_of([*found.rows("held-out"), *found.rows("teaching")], prompt) or Demonstration(prompt=prompt)
    return row if demonstration is None else replace(row, demonstration=demonstration, context=None)
