"""One session of teaching a run: from wherever its folder stands to its last step, or until it is stopped.

Starting and resuming are the same thing. The folder says which data, settings and checkpoint there are; an empty
folder stands at step 0. Everything between two checkpoints is a function of the settings, so a run that was killed
takes the same steps again and ends as if nothing had happened.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from workbench import evaluation
from workbench.adapters import merge_adapter, save_adapter
from workbench.demonstrations import Demonstration
from workbench.errors import RunError
from workbench.evaluation import Exam, Retention
from workbench.events import Checked, Evaluated, Event, RunEnded, RunStarted, Saved, Step
from workbench.execution import Execution
from workbench.groups import Groups
from workbench.models import LoadedModel, load, weights_mark
from workbench.roles import Roles, make_roles
from workbench.runs import checkpoints
from workbench.runs.fitting import as_asked, planned
from workbench.runs.folder import Run, clear_disk_errors, create
from workbench.runs.log import EventWriter
from workbench.sampling import Stopped
from workbench.settings import Settings
from workbench.training import TrainingState, sdft, sft
from workbench.training.batches import make_plan, make_prompts
from workbench.training.sft import refuse_lacking
from workbench.training.together import crew

METHODS: dict[str, Callable[..., Iterator[Step]]] = {"sdft": sdft, "sft": sft}


@dataclass(frozen=True)
class Request:
    """What a person asks for: everything that a run's config.json and rows are made of."""

    name: str
    method: str
    settings: Settings
    teaching: Sequence[Demonstration]
    held_out: Sequence[Demonstration]
    keep: Sequence[Demonstration] = ()
    probes: Sequence[Demonstration] = ()
    scorer: str = "contains"
    evaluate_every: int = 50
    save_every: int = 50
    source: str = ""
    on: str | None = None
    before: Path | None = None
    notes: tuple[str, ...] = field(default=())
    execution: Execution | None = None
    """How many answers at a time; None: as many as fit (`planned`)."""


def begin(request: Request, loaded: LoadedModel, runs: Path) -> Run:
    """Check a request against its model and make the run's folder. Nothing is written if anything is wrong.

    Raises:
        InputError: a row does not fit the model, the name is taken or unsafe.
        RunError: the folder cannot be written.
    """
    settings = request.settings
    if request.method == "sft":
        refuse_lacking(request.teaching)
    prompts = make_prompts(loaded.tokenizer, settings)
    room = settings.rollout.max_new_tokens
    # What the session would stumble on is met here, where no folder has been made yet.
    make_plan(make_roles(loaded, settings.lora, settings.optim.seed), request.teaching, request.keep, settings)
    for rows in (request.held_out, request.keep, request.probes):
        prompts.tokenise_all(rows, loaded.longest, room)
    evaluation.get_scorer(request.scorer)
    chosen = request.execution
    origin = request.before is not None and settings.teacher.teacher == "original"
    work = planned(loaded, settings, origin) if chosen is None else as_asked(chosen, loaded, settings, origin)
    config: dict[str, Any] = {
        "method": request.method,
        "model": loaded.name,
        "revision": loaded.revision,
        "precision": loaded.precision,
        "weights": weights_mark(loaded.name),
        "source": request.source,
        "on": request.on,
        "scorer": request.scorer,
        "evaluate_every": request.evaluate_every,
        "save_every": request.save_every,
        "settings": settings.to_dict(),
        "execution": work.to_dict(),
        "notes": list(request.notes),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "threads": torch.get_num_threads(),
    }
    sides = {"teaching": request.teaching, "held-out": request.held_out, "keep": request.keep}
    return create(runs, request.name, config, sides, request.probes, request.before)


def versions(*more: str) -> dict[str, str]:
    """The versions that a run's result depends on, and those of more packages."""
    names = ("sdft-workbench", "torch", "transformers", "peft", "bitsandbytes")
    found = {"python": platform.python_version()}
    for name in (*names, *more):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def load_base(run: Run, precision: str | None = None, **download: Any) -> LoadedModel:
    """The model that a run is about, before anything was taught.

    Args:
        precision: another one than that which the run was taught in.
        download: how it is followed and stopped, as `load` is told.

    Raises:
        InputError: it is not there any more.
        RunError: its weights are others than when the run was begun, so that the run's adapter says nothing on them.
    """
    config = run.config
    name, mark = config["model"], config.get("weights")
    if mark is not None and weights_mark(name) != mark:
        version = config.get("versions", {}).get("sdft-workbench", "then")
        raise RunError(
            f"The weights of {name} are not those that run {run.name} was begun on.",
            f"Put the earlier weights back (those of `pocket` came with sdft-workbench {version}), or teach anew.",
        )
    precision = precision or config.get("precision", "auto")
    return load(name, revision=config.get("revision"), precision=precision, **download)


def load_for(run: Run, **download: Any) -> LoadedModel:
    """The model that a run started from: its base, with the adapter that it goes on from merged in."""
    loaded = load_base(run, **download)
    return merge_adapter(loaded, run.before) if run.before else loaded


def roles_of(run: Run, settings: Settings, loaded: LoadedModel | None = None) -> Roles:
    """Base, teacher and student of a run, the student untaught; `loaded` is `load_for(run)` if that is in memory."""
    # A second copy of the weights, so only where the teacher is another model than the base.
    origin = load_base(run) if run.before and settings.teacher.teacher == "original" else None
    return make_roles(loaded or load_for(run), settings.lora, settings.optim.seed, origin)


class Session:
    """A run with its model in memory, standing at its last checkpoint.

    Args:
        run: the folder.
        loaded: the model that the run starts from (`load_for`), if it is in memory already.

    Attributes:
        roles: base, teacher and student.
        notes: what a person should know, such as a damaged checkpoint that was passed over.
    """

    def __init__(self, run: Run, loaded: LoadedModel | None = None) -> None:
        config = run.config
        self.run = run
        self.method: str = config["method"]
        self.settings = Settings.from_dict(config["settings"])
        self.roles = roles_of(run, self.settings, loaded)
        self._execution = Execution.from_dict(config.get("execution", {}))
        self._evaluate_every = int(config["evaluate_every"])
        self._save_every = int(config["save_every"])
        self._scorer = str(config["scorer"])
        saved = any(isinstance(event, Saved) for event in run.log.read())
        point, self.notes = checkpoints.latest(run.checkpoints, promised=saved)
        self.state = TrainingState.begin(self.roles, self.settings)
        self._events, self._settled = 0, True
        if point is not None:
            self.state.load(point.tensors(), point.step)
            self._events, self._settled = point.events, point.settled

    def teach(self, should_stop: Callable[[], bool] = bool) -> Iterator[Event]:
        """Take the run to its end, yielding each event once it is logged. Stops at `should_stop`, state saved.

        The session is over when the iterator is: make a new one to go on.

        Raises:
            RunError: another process teaches this run; the disk is full or unwritable.
        """
        with self.run.locked():
            for folder in (self.run.path, self.run.checkpoints):
                checkpoints.clear_leftovers(folder)
            with clear_disk_errors(self.run.path):
                writer = EventWriter(self.run.log, self._events)
            try:
                for event in self._events_of(writer, should_stop):
                    with clear_disk_errors(self.run.path):
                        writer.write(event)
                        if isinstance(event, Saved | RunEnded):
                            writer.sync()
                    yield event
            finally:
                with clear_disk_errors(self.run.path):
                    writer.close()

    def follow(self) -> Any:
        """Take the steps that the first process of this run's crew writes down; returns what it tells in the end."""
        return crew().follow(lambda: self._steps(bool))

    def _steps(self, should_stop: Callable[[], bool]) -> Iterator[Step]:
        rows, keep = self.run.rows("teaching"), self.run.rows("keep")
        how = {"keep": keep, "state": self.state, "should_stop": should_stop, "execution": self._work()}
        return METHODS[self.method](self.roles, rows, self.settings, **how)

    def _events_of(self, writer: EventWriter, should_stop: Callable[[], bool]) -> Iterator[Event]:
        teaching, keep = self.run.rows("teaching"), self.run.rows("keep")
        try:
            exam, retention = self._exams(should_stop)
        except Stopped:
            return
        if writer.lacks_last:
            # The process died between publishing the checkpoint and noting it.
            yield Saved(self.state.step)
        if self._events == 0:
            yield self._started(teaching, keep, retention)
        try:
            if self._events <= 1:
                yield self._check(exam, retention, should_stop)
            if not self._settled:
                yield from self._after_step(exam, retention, writer, should_stop)
            crew().lead()
            for step in self._steps(should_stop):
                self._settled = False
                yield step
                yield from self._after_step(exam, retention, writer, should_stop)
        except Stopped:
            pass
        if self.state.step < self.settings.optim.steps or not self._settled:
            if self.state.step:
                self._save(writer.seq)
            return
        if not self._ended():
            with clear_disk_errors(self.run.path):
                save_adapter(self.roles, self.run.adapter, self.run.before)
            yield RunEnded(self.state.step, round(self._seconds(), 3))

    def _after_step(
        self, exam: Exam, retention: Retention, writer: EventWriter, should_stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """What is due after the step just taken: a measurement, a checkpoint."""
        step, last = self.state.step, self.state.step == self.settings.optim.steps
        if last or step % self._evaluate_every == 0:
            yield self._evaluate(exam, retention, should_stop)
        self._settled = True
        if last or step % self._save_every == 0:
            # The checkpoint counts its own event, which is written once the checkpoint is there.
            writer.sync()
            self._save(writer.seq + 1)
            yield Saved(step)

    def _work(self) -> Execution:
        """As the run was planned, or smaller since memory ran out in a step before this one."""
        work = self._execution
        for event in self.run.log.read():
            if isinstance(event, Step) and event.step <= self.state.step and event.smaller:
                work = Execution.from_dict({**work.to_dict(), **event.smaller})
        return work

    def _ended(self) -> bool:
        return self.run.adapter.is_dir() and any(isinstance(e, RunEnded) for e in self.run.log.read())

    def _exams(self, should_stop: Callable[[], bool]) -> tuple[Exam, Retention]:
        loaded, longest = self.roles.loaded, self.settings.rollout.max_new_tokens
        prompts = make_prompts(loaded.tokenizer, self.settings)
        # As planned, also where memory ran out in a step since: a resumed run measures as the first part did.
        how: dict[str, Any] = {"longest": longest, "groups": Groups(self._execution.asked)}
        exam = Exam(loaded, prompts, self.run.rows("held-out"), scorer=self._scorer, **how)
        base = self.roles.base_decoder
        retention = Retention(loaded, base, prompts, self.run.probes(), should_stop=should_stop, **how)
        return exam, retention

    def _started(
        self,
        teaching: Sequence[Demonstration],
        keep: Sequence[Demonstration],
        retention: Retention,
    ) -> RunStarted:
        # Made here once more so that what does not fit is said before the first event.
        make_plan(self.roles, teaching, keep, self.settings)
        return RunStarted(
            run=self.run.name,
            method=self.method,
            model=self.roles.loaded.name,
            steps=self.settings.optim.steps,
            teaching=len(teaching),
            held_out=len(self.run.rows("held-out")),
            keep=len(keep),
            probes=retention.exam.size,
            notes=tuple(self.run.config.get("notes", ())),
            on=self.run.config.get("on"),
        )

    def _check(self, exam: Exam, retention: Retention, should_stop: Callable[[], bool]) -> Checked:
        base = teacher = None
        lost = 0
        if exam.size:
            alone = exam.sit(self.roles.base_decoder, should_stop=should_stop)
            # This asks what can be taught at all.
            decoder = self.roles.first_teacher(self.settings.teacher.teacher)
            shown = exam.sit(decoder, shown=True, should_stop=should_stop)
            base, teacher, lost = alone.measure, shown.measure, alone.cut_off + shown.cut_off
        verdict, advice = evaluation.verdict(base, teacher, lost)
        return Checked(base, teacher, retention.measured, verdict, advice)

    def _evaluate(self, exam: Exam, retention: Retention, should_stop: Callable[[], bool]) -> Evaluated:
        start = time.perf_counter()
        decoder = self.roles.student_decoder
        skill = exam.sit(decoder, should_stop=should_stop).measure if exam.size else None
        kept = retention.of(decoder, should_stop)
        return Evaluated(self.state.step, skill, kept, round(time.perf_counter() - start, 3))

    def _save(self, events: int) -> None:
        with clear_disk_errors(self.run.checkpoints):
            checkpoints.save(self.run.checkpoints, self.state.step, self.state.tensors(), events, self._settled)

    def _seconds(self) -> float:
        """Time spent on steps and evaluations so far, interruptions not counted."""
        total = 0.0
        for event in self.run.log.read():
            if isinstance(event, Step):
                total += sum(event.seconds.values())
            elif isinstance(event, Evaluated):
                total += event.seconds
        return total


def student_at(run: Run, step: int | None = None, loaded: LoadedModel | None = None) -> Roles:
    """The three roles of a run, with the student as it was at a step (default: the latest checkpoint).

    Raises:
        RunError: there is no checkpoint (of that step), or it is damaged.
    """
    settings = Settings.from_dict(run.config["settings"])
    steps = checkpoints.all_steps(run.checkpoints)
    if not steps:
        raise RunError(
            f"Run {run.name} has no checkpoint yet, so there is no student.",
            f"Go on: workbench resume {run.name}.",
        )
    if step is not None:
        point: checkpoints.Checkpoint | None = checkpoints.load(run.checkpoints, step)
    else:
        point, _ = checkpoints.latest(run.checkpoints, promised=True)
    assert point is not None
    roles = roles_of(run, settings, loaded)
    state = TrainingState.begin(roles, settings)
    state.load(point.tensors(), point.step)
    return roles
