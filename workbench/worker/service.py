"""The worker process: one thread owns the model, another takes commands in.

| do | arguments | result |
|---|---|---|
| load | model, revision, precision | model, precision, notes, parameters, longest, pocket, seconds |
| check, teach, resume, sit, export, import_adapter | see `tasks.py` | |
| ask | messages, demonstration, context, run, step, roles, temperature, top_p, top_k, seed, longest, times,
  right, scorer | answers (each with text, tokens, seconds, right) and prompts by role, first_token_seconds |
| map | messages, demonstration, context, run, step, of, text | sample: a `RolloutSample` |
| render | row, template | student, teacher, student_tokens, teacher_tokens, limit |
| fit | rows, settings | misfits: what is wrong with each row that the model cannot read whole, by its place |
| stop | of: the id of one command, which alone is stopped; default: what goes on | was: the state before; of `load`
  only a download is stopped |

Long commands are performed one at a time; a second one is refused. Questions (`ask`, `map`, `render`, `fit`) are
served while a long command goes on, wherever it asks whether to stop: between two tokens and between two phases. They
draw from generators of their own and change no weight, so that a run's numbers do not depend on them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from workbench.allocations import free_memory
from workbench.errors import InputError, WorkbenchError
from workbench.evaluation import after_thoughts, get_scorer
from workbench.hub import Halted, Report
from workbench.models import load, parameters
from workbench.sampling import Choice, Stopped
from workbench.worker.asking import ROLES, Asker, Question, read_rows
from workbench.worker.failures import in_words, stopped
from workbench.worker.protocol import DOWNLOADING, LONG, SHORT, WasStopped, from_line, to_line
from workbench.worker.tasks import Tasks

Command = dict[str, Any]

_STATES = {"load": "loading", "check": "checking", "teach": "teaching", "resume": "teaching"}
_SOON = "Wait for it; it is soon done."
_ON_TEACH = "Wait for it, or press Stop on the Teach page."
_DOING = {
    "load": ("A model is being loaded", "Wait for it; a download can be stopped on the Model page."),
    "check": ("The teacher is being checked", "Wait for it, or press Stop on the Check page."),
    "teach": ("A run is being taught", _ON_TEACH),
    "resume": ("A run is being taught", _ON_TEACH),
    "sit": ("A run's questions are being asked", "Wait for it, or press Stop beside Ask them all on the Compare page."),
    "export": ("A run is being exported", _SOON),
    "import_adapter": ("An adapter is being imported", _SOON),
}
"""What goes on, and what to do about it if one wants something else."""


class Service:
    """Serves commands until the input ends.

    Args:
        runs: the folder of runs.
        output: where replies go, one line each.
    """

    def __init__(self, runs: Path, output: IO[bytes]) -> None:
        self._runs = runs.absolute()
        self._output = output
        self._writing = threading.Lock()
        self._asker: Asker | None = None
        self._news = threading.Condition()  # guards all of the following
        self._short: deque[tuple[float, Command]] = deque()
        self._long: Command | None = None  # waiting to be taken up
        self._doing: Command | None = None
        self._over = False
        self._stop = threading.Event()
        self._status: dict[str, Any] = {"state": "loading", "model": None, "run": None, "phase": "", "error": None}
        self._asking: int | None = None  # the question that is being answered
        self._ended: int | None = None  # the one of them whose end was asked for

    def run(self, lines: Iterable[bytes], first: dict[str, Any]) -> None:
        """Load the first model (the arguments of `load`), then serve until `lines` end. Teaching stops, saved."""
        self._doing = {"id": 0, "do": "load", **first}
        reader = threading.Thread(target=self._read, args=(lines,), name="reader", daemon=True)
        reader.start()
        self._perform(self._doing)
        while True:
            with self._news:
                self._news.wait_for(lambda: self._over or self._short or self._long)
                if self._over:
                    return
                command, self._long = self._long, None
                if command is not None:
                    self._doing = command
                    self._stop.clear()
            if command is not None:
                self._perform(command)
            self._serve_questions()

    def end(self) -> None:
        """Stop what goes on, saved, and return from `run`."""
        with self._news:
            self._over = True
            self._stop.set()
            self._news.notify_all()

    # The reader's thread.

    def _read(self, lines: Iterable[bytes]) -> None:
        try:
            for line in lines:
                try:
                    command = from_line(line)
                    command["id"] = int(command["id"])
                    do = str(command["do"])
                except (ValueError, KeyError, TypeError) as error:
                    self._say(0, {"reply": "failed", "problem": f"A line is no command: {error!r}.", "advice": ""})
                    continue
                self._receive(do, command)
        finally:
            self.end()

    def _receive(self, do: str, command: Command) -> None:
        if do == "stop":
            of = command.get("of")
            was = self._ask_to_stop() if of is None else self._stop_one(of)
            self._say(command["id"], {"reply": "done", "result": {"was": was}})
        elif do in SHORT:
            with self._news:
                self._short.append((time.perf_counter(), command))
                self._news.notify_all()
        elif do in LONG:
            refused = self._accept(command)
            if refused is not None:
                self._fail(command, refused)
        else:
            self._fail(command, InputError(f"There is no command {do!r}.", f"Use {', '.join((*SHORT, *LONG))}."))

    def _accept(self, command: Command) -> WorkbenchError | None:
        with self._news:
            doing, run = self._doing, self._status["run"]
            # A person need not wait for the model before pressing a button: one command may wait for it.
            if self._long is None and (doing is None or (doing["do"] == "load" and command["do"] != "load")):
                self._long = command
                self._news.notify_all()
                return None
            busy = doing or self._long
        what, advice = _DOING[busy["do"]] if busy else ("Something else goes on", _SOON)
        named = f"{what} ({run})" if run else what
        return WorkbenchError(f"{named}; only one such thing is done at a time.", advice)

    def _ask_to_stop(self) -> str:
        """Stop what goes on, and drop what waits for it."""
        with self._news:
            was = str(self._status["state"])
            waiting, self._long = self._long, None
            self._halt()
        if waiting is not None:
            self._fail(waiting, stopped())
        return was

    def _halt(self) -> None:
        """Have what goes on stop; the lock is held."""
        fetching = str(self._status["phase"]).startswith(DOWNLOADING)
        stoppable = self._asking is not None if self._doing is None else self._doing["do"] != "load" or fetching
        if not stoppable:
            return
        self._stop.set()
        # Before the lock is given back: what stops at once is over, and must not be said to be stopping still.
        if self._status["state"] != "idle":
            self._become(state="stopping", phase="Stopping")

    def _stop_one(self, number: int) -> str:
        """Stop this command and no other, be it under way or waiting; one that is over stays as it came out."""
        with self._news:
            was = str(self._status["state"])
            queued = (self._long, *(command for _, command in self._short))
            waiting = [command for command in queued if command is not None and command["id"] == number]
            if waiting:
                self._long = None if self._long in waiting else self._long
                self._short = deque(item for item in self._short if item[1] not in waiting)
            elif self._asking == number:
                self._ended = number
            elif self._doing is not None and self._doing["id"] == number:
                self._halt()
        for command in waiting:
            self._fail(command, stopped())
        return was

    # The model's thread.

    def _perform(self, command: Command) -> None:
        """One long command, whatever comes of it."""
        do, result = command["do"], None
        failure: WorkbenchError | None = None
        if do != "load":
            self._become(state=_STATES.get(do, "working"), error=None)
        try:
            result = self._long_command(do, command)
        except Stopped:
            failure = stopped()
        except Exception as error:
            failure = in_words(error)
        # Also of what went well: a card is shown, to the pages and to other programs, as it is now.
        free_memory()
        with self._news:
            self._doing = None
            self._stop.clear()
        lost = str(failure) if do == "load" and failure is not None else None
        if isinstance(failure, Halted) and self._asker is not None:
            lost = None  # somebody asked for it, and there is a model to go on with
        self._become(state="idle", phase="", run=None, error=lost)
        if not command["id"]:
            return
        if failure is not None:
            self._fail(command, failure)
        else:
            self._say(command["id"], {"reply": "done", "result": result})

    def _long_command(self, do: str, command: Command) -> dict[str, Any]:
        arguments = {k: v for k, v in command.items() if k not in ("id", "do")}
        if do == "load":
            return self._load(**arguments)
        tasks = Tasks(self._model(), self._runs, self._should_stop, self._tell)
        task: Callable[..., dict[str, Any]] = getattr(tasks, do)
        try:
            return task(lambda reply: self._say(command["id"], reply), **arguments)
        except TypeError as error:
            if task.__name__ + "()" in str(error):
                raise InputError(f"{do} was given the wrong arguments: {error}.", "See service.py.") from error
            raise

    def _load(self, model: str, revision: str | None = None, precision: str = "auto") -> dict[str, Any]:
        self._become(state="loading", phase=f"Loading {model}", run=None, error=None)
        began = time.perf_counter()
        old = self._asker
        if old is not None and not old.loaded.is_pocket:
            # There may be room for one only; if the new one cannot be loaded, the old one is read again.
            self._asker, kept, old = None, old.loaded, None
            again: tuple[str, str | None, str] | None = (kept.name, kept.revision, kept.precision)
            del kept
            free_memory()
        else:
            again = None
        report, begins = self._fetching(model)
        how: dict[str, Any] = {"report": report, "should_stop": self._stop.is_set, "begins": begins}
        failure: WorkbenchError | None = None
        try:
            self._asker = Asker(load(model, revision=revision, precision=precision, **how), self._runs)
        except Exception as error:
            failure = in_words(error)
        try:
            if failure is not None:
                free_memory()  # of what was read of the new one, before the old one is read again
                if again is not None:
                    self._asker = Asker(load(again[0], revision=again[1], precision=again[2]), self._runs)
                raise failure
        finally:
            self._become(model=None if self._asker is None else self._asker.loaded.name)
        loaded = self._model().loaded
        return {
            "model": loaded.name,
            "precision": loaded.precision,
            "notes": list(loaded.notes),
            "parameters": parameters(loaded.model),
            "longest": loaded.longest,
            "pocket": loaded.is_pocket,
            "seconds": round(time.perf_counter() - began, 3),
        }

    def _fetching(self, model: str) -> tuple[Report, Callable[[str], None]]:
        """Say how far a download is, at each new file and twice a second at most."""
        said, file = 0.0, ""

        def begins(name: str) -> None:
            nonlocal said, file
            said, file = 0.0, f"{name}, " if name else ""

        def report(done: float, total: float) -> None:
            nonlocal said
            if done >= total:
                self._become(phase=f"Reading {model} into memory")
            elif time.perf_counter() - said > 0.5:
                said = time.perf_counter()
                self._become(phase=f"{DOWNLOADING} {model}: {file}{done / 1e9:.2f} of {total / 1e9:.2f} GB")

        return report, begins

    def _model(self) -> Asker:
        if self._asker is None:
            raise InputError("No model is loaded.", "Load one on the Model page.")
        return self._asker

    def _tell(self, phase: str, run: str | None) -> None:
        self._become(phase=phase, run=run)

    def _should_stop(self) -> bool:
        """What a long command asks at every token and between phases: the moment at which questions are served."""
        if not self._stop.is_set():
            self._serve_questions()
        return self._stop.is_set()

    def _serve_questions(self) -> None:
        while True:
            with self._news:
                if not self._short or (self._stop.is_set() and self._doing is not None) or self._over:
                    return
                asked_at, command = self._short.popleft()
                self._asking = command["id"]
                if self._doing is None:
                    self._stop.clear()
            try:
                result = getattr(self, "_" + command["do"])(command, asked_at)
            except Stopped:
                with self._news:
                    if self._doing is not None and self._ended != command["id"]:
                        # It was not meant for the question, which is answered once what goes on has stopped.
                        self._short.appendleft((asked_at, command))
                        return
                self._fail(command, stopped())
            except Exception as error:
                self._fail(command, in_words(error))
            else:
                if command["do"] == "ask":
                    # There is a model that answers: which one could not be loaded is no news any more.
                    self._become(error=None)
                self._say(command["id"], {"reply": "done", "result": result})
            finally:
                self._asking = None

    def _ask(self, command: Command, asked_at: float) -> dict[str, Any]:
        asker, run = self._model(), command.get("run")
        view = asker.view(run, command.get("step"))
        longest = command.get("longest")
        # Half of what a short model reads is the question's.
        usual = min(view.settings.rollout.max_new_tokens, asker.loaded.longest // 2)
        question = Question(
            row=asker.row(command["messages"], command.get("demonstration"), command.get("context"), run),
            view=view,
            roles=tuple(command.get("roles") or ROLES),
            choice=Choice(
                float(command.get("temperature", 0.0)), float(command.get("top_p", 1.0)), int(command.get("top_k", 0))
            ),
            seed=int(command.get("seed", 0)),
            longest=usual if longest is None else int(longest),
            times=int(command.get("times", 1)),
            right=command.get("right"),
            scorer=after_thoughts(get_scorer(command.get("scorer") or "contains"), asker.loaded.tokenizer),
        )

        def should_stop() -> bool:
            return self._stop.is_set() or self._ended == command["id"]

        return asker.ask(question, lambda reply: self._say(command["id"], reply), should_stop, asked_at)

    def _map(self, command: Command, asked_at: float) -> dict[str, Any]:
        asker, run = self._model(), command.get("run")
        row = asker.row(command["messages"], command.get("demonstration"), command.get("context"), run)
        view = asker.view(run, command.get("step"))
        return {"sample": asker.map(row, view, str(command.get("of", "student")), str(command["text"])).to_dict()}

    def _render(self, command: Command, asked_at: float) -> dict[str, Any]:
        return self._model().render(read_rows([command["row"]])[0], str(command.get("template") or ""))

    def _fit(self, command: Command, asked_at: float) -> dict[str, Any]:
        return {"misfits": self._model().misfits(read_rows(command["rows"]), command.get("settings"))}

    # Both threads.

    def _become(self, **said: Any) -> None:
        with self._news:
            changed = {**self._status, **said}
            if self._status["state"] == "stopping" and changed["state"] != "idle":
                changed["state"] = "stopping"
            if changed == self._status:
                return
            self._status = changed
            self._say(0, {"reply": "status", **changed})

    def _say(self, number: int, reply: dict[str, Any]) -> None:
        line = to_line({"id": number, **reply})
        with self._writing:
            try:
                self._output.write(line)
                self._output.flush()
            except (OSError, ValueError):
                # Nobody listens any more: the input ends too, and with it the process, in order.
                return

    def _fail(self, command: Command, error: WorkbenchError) -> None:
        kind = {"input": isinstance(error, InputError), "stopped": isinstance(error, WasStopped)}
        failed = {"reply": "failed", "problem": error.problem, "advice": error.advice, **kind}
        self._say(command["id"], failed)
