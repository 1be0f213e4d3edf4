"""Teach a run to its end before a person's eyes, and say what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.commands import screen
from workbench.commands.interrupt import Interrupt
from workbench.commands.options import downloading
from workbench.errors import RunError
from workbench.evaluation import answer
from workbench.events import Checked, Evaluated, Measure, RunEnded, Step
from workbench.models import POCKET, LoadedModel
from workbench.runs import Run, default_runs
from workbench.runs.session import Session, load_for, student_at
from workbench.settings import Settings, own_defaults
from workbench.training.batches import make_prompts
from workbench.training.together import crew
from workbench.views.words import ran_out


def conduct(run: Run, loaded: LoadedModel | None = None, quiet: bool = False) -> dict[str, Any]:
    """Teach `run` from where it stands, with a progress bar; returns what `result` gives.

    Of several processes the first does so, and the others take its steps with it and are told what came of them.

    Args:
        loaded: the model that the run starts from, if it is in memory.
        quiet: leave the teacher check out (it was shown already).
    """
    screen.console.quiet = not crew().first
    if loaded is None:
        with downloading(str(run.config["model"])) as download:
            loaded = load_for(run, **download)
    session = Session(run, loaded)
    interrupt = Interrupt("Stopping: the state is being saved ...")
    if not crew().first:
        with interrupt.installed():  # the first is asked to stop
            told: dict[str, Any] = session.follow()
            return told
    try:
        _teach(session, interrupt, quiet)
    except Exception:
        crew().told({"finished": False})
        raise
    found: dict[str, Any] = crew().told(result(run))
    return found


def _teach(session: Session, interrupt: Interrupt, quiet: bool) -> None:
    for note in session.notes:
        screen.say(note)
    steps = session.settings.optim.steps
    meter: screen.Meter | None = None
    with interrupt.installed(), ExitStack() as stack:
        for event in session.teach(interrupt):
            if isinstance(event, Checked) and not quiet:
                screen.show_check(event)
            if isinstance(event, Step | Evaluated):
                if meter is None:
                    if not quiet:
                        screen.heading(f"Teaching by {session.method.upper()}")
                    meter = stack.enter_context(screen.Meter(session.method.upper(), steps, event.step - 1))
                meter.see(event)
                if isinstance(event, Step) and event.smaller:
                    screen.say(ran_out(event))


@contextmanager
def resumable(run: Run) -> Iterator[None]:
    """Say how to go on with `run` if the person presses Ctrl-C where nothing else answers it."""
    try:
        yield
    except KeyboardInterrupt:
        raise RunError(
            f"Interrupted. What run {run.name} had saved is intact.", f"Go on: workbench resume {_called(run)}"
        ) from None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has come to, from its events; None where nothing was measured (yet).

    `retention` is the share of the probes that the base knew, `probes` the share of all probes that it knew.
    """

    base: Measure | None
    teacher: Measure | None
    probes: Measure | None
    skill: Measure | None
    retention: Measure | None
    step: int
    seconds: float | None

    @classmethod
    def of(cls, run: Run) -> Outcome:
        """Read it from the run's log."""
        events = run.log.read()
        last: dict[type[Any], Any] = {type(event): event for event in events}
        checked, evaluated, ended = last.get(Checked), last.get(Evaluated), last.get(RunEnded)
        return cls(
            base=checked and checked.base,
            teacher=checked and checked.teacher,
            probes=checked and checked.probes,
            skill=evaluated and evaluated.skill,
            retention=evaluated and evaluated.retention,
            step=max((e.step for e in events if isinstance(e, Step)), default=0),
            seconds=ended and ended.seconds,
        )


def result(run: Run) -> dict[str, Any]:
    """The object that `teach --json` prints.

    `skill` has the shares of right answers on held-out rows; `retention` has `base`, the share of probes that the
    base answers right, and `student`, the share of those (n of them) that the student still does. The base of a run
    that goes on from another is that one's result.
    """
    config, found = run.config, Outcome.of(run)
    return {
        "run": str(run.path),
        "method": config["method"],
        "model": config["model"],
        "steps": found.step,
        "seconds": found.seconds,
        "finished": found.seconds is not None,
        "skill": {
            "base": _value(found.base),
            "teacher": _value(found.teacher),
            "student": _value(found.skill),
            "n": 0 if found.skill is None else found.skill.n,
        },
        "retention": {
            "base": _value(found.probes),
            "student": _value(found.retention),
            "n": 0 if found.retention is None else found.retention.n,
        },
    }


def _value(measure: Measure | None) -> float | None:
    return None if measure is None else round(measure.value, 4)


def show_result(run: Run, found: dict[str, Any]) -> None:
    """The table before / after, with SFT beside SDFT where it was run to its end; 95% intervals under the shares."""
    columns = ["", "before", "shown how (teacher)", f"after {found['method'].upper()}"]
    first = Outcome.of(run)
    outcomes = [first]
    beside = found.get("beside")
    if beside and beside["finished"]:
        columns.append(f"after {beside['method'].upper()}")
        outcomes.append(Outcome.of(Run(Path(beside["run"]))))
    asked = next((m.n for m in (first.skill, first.base) if m is not None), 0)
    # Known before the first measurement, too; the log of an older version has it with that alone.
    known_before = 0 if first.probes is None else round(first.probes.value * first.probes.n)
    kept = known_before if first.retention is None else first.retention.n
    on = run.config.get("on")
    whose = f"that {on} had left" if on else "it knew"
    known = f"of {kept} probes {whose}" if kept else f"of the probes {whose}"
    skills = [first.base, first.teacher, *(o.skill for o in outcomes)]
    rows = [
        [f"held-out questions right, of {asked}\n95% interval", *map(_cell, skills)],
        [
            f"still right, {known}\n95% interval",
            "100%" if kept else "-",
            "-",
            *(_cell(o.retention) for o in outcomes),
        ],
        ["seconds", "-", "-", *("-" if o.seconds is None else f"{o.seconds:.0f}" for o in outcomes)],
    ]
    screen.table(f"What {found['model']} learned, and what it forgot", columns, rows)
    if first.probes is not None and first.probes.n and not kept:
        screen.say(
            f"What it forgot cannot be told: before the lesson it answered none of the {first.probes.n} probes right. "
            "Name questions that it can answer with --probes FILE."
        )


def show_answers(run: Run, count: int = 3) -> None:
    """Some held-out questions with the answers of base, teacher and student."""
    rows = run.rows("held-out")[:count]
    if not rows:
        return
    roles = student_at(run)
    loaded = roles.loaded
    settings = Settings.from_dict(run.config["settings"])
    prompts = make_prompts(loaded.tokenizer, settings)
    tokens = [prompts.tokenise(row) for row in rows]
    longest = settings.rollout.max_new_tokens
    asked = [t.student for t in tokens]
    teacher = roles.first_teacher(settings.teacher.teacher)
    columns = {
        "base": answer(roles.base_decoder, loaded, asked, longest=longest),
        "teacher": answer(teacher, loaded, [t.teacher for t in tokens], longest=longest),
        "student": answer(roles.student_decoder, loaded, asked, longest=longest),
    }
    screen.heading("Three questions that it was not taught")
    for index, row in enumerate(rows):
        screen.say(f"  {row.question}" + (f"   (right: {row.answer})" if row.answer else ""))
        for role, texts in columns.items():
            screen.say(f"    {role:<8} {texts[index]}")


NEAR = 0.8
"""Share of the teacher's skill below which a student is told to be far from it."""


def follow_up(run: Run, found: dict[str, Any]) -> None:
    """Where the run is, and what to try next."""
    screen.say()
    if not found["finished"]:
        screen.say(f"Stopped at step {found['steps']}; the state is kept in {run.path}")
        screen.say(f"Go on: workbench resume {_called(run)}")
        return
    beside = found.get("beside")
    if beside and not beside["finished"]:
        other = Run(Path(beside["run"]))
        screen.say(f"The run by {beside['method'].upper()} was stopped at step {beside['steps']}.")
        screen.say(f"Go on: workbench resume {_called(other)}")
    row = next(iter(run.rows("held-out") or run.rows("teaching")), None)
    folder = "" if _is_default(run) else f" --runs {shlex.quote(str(run.path.parent))}"
    screen.say(f"The run is kept in {run.path}")
    skill = found["skill"]
    if found["method"] == "sdft" and skill["n"] and skill["student"] < NEAR * (skill["teacher"] or 0):
        # What the model needs by default is the least that is worth trying: twice a first try may be nothing.
        usual = own_defaults(run.config["model"] == POCKET, run.config.get("on") is not None)
        longer = max(2 * found["steps"], Settings.from_dict(usual).optim.steps)
        screen.say(
            f"It is still far from its teacher, {skill['student']:.0%} against {skill['teacher']:.0%}: teach it for "
            f"longer (--steps {longer}), or give it more examples."
        )
    screen.say("Worth trying next:")
    if row is not None:  # an adapter that was brought in has none
        screen.say(f"  workbench compare {_called(run)} --prompt {shlex.quote(row.question)}")
    screen.say(f"  workbench export {_called(run)} --to merged my-model")
    screen.say(f"  workbench runs{folder}")


def _is_default(run: Run) -> bool:
    return run.path.parent == default_runs().expanduser().resolve()


def _called(run: Run) -> str:
    """What to type for a run: its name where that is enough, else its folder."""
    return shlex.quote(run.name if _is_default(run) else str(run.path))


def _cell(measure: Measure | None) -> str:
    return "-" if measure is None else f"{measure.value:.0%}\n{screen.interval(measure)}"
