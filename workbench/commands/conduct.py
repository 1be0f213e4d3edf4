"""Teach a run to its end before a person's eyes, and say what came of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from workbench.commands import screen
from workbench.evaluation import answer
from workbench.events import Checked, Evaluated, Event, Measure, RunEnded, Step
from workbench.models import LoadedModel
from workbench.runs import Run
from workbench.runs.session import Session, student_at
from workbench.settings import Settings
from workbench.training.batches import make_prompts


class _Interrupt:
    """Ctrl-C once: finish what must be finished, save, say how to go on. Twice: the usual end."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Answer SIGINT and SIGTERM while the run is taught."""

        def note(number: int, frame: object) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            screen.say("Stopping: the state is being saved ...")

        try:
            before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: whoever runs us there answers signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def conduct(run: Run, loaded: LoadedModel | None = None, quiet: bool = False) -> dict[str, Any]:
    """Teach `run` from where it stands, with a progress bar; returns what `result` gives.

    Args:
        loaded: the model that the run starts from, if it is in memory.
        quiet: leave the teacher check out (it was shown already).
    """
    session = Session(run, loaded)
    for note in session.notes:
        screen.say(note)
    interrupt = _Interrupt()
    steps = session.settings.optim.steps
    meter: screen.Meter | None = None
    with interrupt.installed(), ExitStack() as stack:
        for event in session.teach(interrupt):
            if isinstance(event, Checked) and not quiet:
                screen.show_check(event)
            if isinstance(event, Step | Evaluated):
                if meter is None:
                    screen.heading(f"Teaching by {session.method.upper()}")
                    meter = stack.enter_context(screen.Meter(session.method.upper(), steps, event.step - 1))
                meter.see(event)
    return result(run)


def result(run: Run) -> dict[str, Any]:
    """What a run has come to, from its events: the object that `teach --json` prints.

    `skill` has the shares of right answers on held-out rows; `retention` has `base`, the share of probes that the
    base answers right, and `student`, the share of those (n of them) that the student still does.
    """
    events = run.log.read()
    config = run.config
    checked = _last(events, Checked)
    evaluated = _last(events, Evaluated)
    ended = _last(events, RunEnded)
    skill = None if evaluated is None else evaluated.skill
    kept = None if evaluated is None else evaluated.retention
    return {
        "run": str(run.path),
        "method": config["method"],
        "model": config["model"],
        "steps": max((e.step for e in events if isinstance(e, Step)), default=0),
        "seconds": None if ended is None else ended.seconds,
        "finished": ended is not None,
        "skill": {
            "base": _value(checked and checked.base),
            "teacher": _value(checked and checked.teacher),
            "student": _value(skill),
            "n": 0 if skill is None else skill.n,
        },
        "retention": {
            "base": _value(checked and checked.probes),
            "student": _value(kept),
            "n": 0 if kept is None else kept.n,
        },
    }


def _last(events: list[Event], kind: type[Any]) -> Any:
    return next((e for e in reversed(events) if isinstance(e, kind)), None)


def _value(measure: Measure | None) -> float | None:
    return None if measure is None else round(measure.value, 4)


def show_result(run: Run, found: dict[str, Any]) -> None:
    """The table before / after, with SFT beside SDFT where it was run."""
    columns = ["", "before", "shown how (teacher)", f"after {found['method'].upper()}"]
    skill, kept = found["skill"], found["retention"]
    known = f"of the {kept['n']} probes it knew, still right"
    rows = [
        ["held-out questions right", *(_share(skill[k]) for k in ("base", "teacher", "student"))],
        [known, "100%" if kept["n"] else "-", "-", _share(kept["student"])],
        ["seconds", "-", "-", _seconds(found["seconds"])],
    ]
    beside = found.get("beside")
    if beside:
        columns.append(f"after {beside['method'].upper()}")
        for row, value in zip(
            rows,
            (
                _share(beside["skill"]["student"]),
                _share(beside["retention"]["student"]),
                _seconds(beside["seconds"]),
            ),
            strict=True,
        ):
            row.append(value)
    screen.table(f"What {found['model']} learned, and what it forgot ({skill['n']} questions)", columns, rows)


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
    columns = {
        "base": answer(roles.base_decoder, loaded, asked, longest=longest),
        "teacher": answer(roles.base_decoder, loaded, [t.teacher for t in tokens], longest=longest),
        "student": answer(roles.student_decoder, loaded, asked, longest=longest),
    }
    screen.heading("Three questions that it was not taught")
    for index, row in enumerate(rows):
        screen.say(f"  {row.question}" + (f"   (right: {row.answer})" if row.answer else ""))
        for role, texts in columns.items():
            screen.say(f"    {role:<8} {texts[index]}")


def follow_up(run: Run, found: dict[str, Any]) -> None:
    """Where the run is, and what to try next."""
    screen.say()
    if not found["finished"]:
        screen.say(f"Stopped at step {found['steps']}; the state is kept in {run.path}")
        screen.say(f"Go on: workbench resume {run.path}")
        return
    row = next(iter(run.rows("held-out") or run.rows("teaching")))
    question = row.question.replace('"', '\\"')
    screen.say(f"The run is kept in {run.path}")
    screen.say("Worth trying next:")
    screen.say(f'  workbench compare {run.path} --prompt "{question}"')
    screen.say(f"  workbench export {run.path} --to merged my-model")
    screen.say("  workbench runs")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
