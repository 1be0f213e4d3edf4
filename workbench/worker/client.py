"""The other end of the pipe: starts the worker process, sends commands, takes replies in. No torch here.

    worker = Worker(Path("runs"))
    worker.start()
    call = worker.call("ask", messages=[{"role": "user", "content": "What is 3 plus 4?"}])
    for reply in call:                      # as they come in
        ...
    call.result()["answers"]["base"][0]["text"]

Nothing here waits for the model: `call` returns at once, `status` is what was heard last. A process that dies is
started again; what was asked of it fails with `WorkerDied`, and `status.error` says what happened and what to do.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.errors import InputError, WorkbenchError
from workbench.worker.protocol import LAST, LONG, Status, WasStopped, WorkerDied, from_line, to_line

_DEATHS, _WINDOW = 3, 60.0
_BACK_OFF = (5.0, 15.0, 60.0)


class Call:
    """One command under way, and its replies so far. May be read by several threads, from the beginning by each.

    Attributes:
        number: what the worker knows it by.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._replies: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def _add(self, reply: dict[str, Any]) -> None:
        with self._changed:
            if not self._ended():
                self._replies.append(reply)
                self._changed.notify_all()

    def _ended(self) -> bool:
        return bool(self._replies) and self._replies[-1].get("reply") in LAST

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every reply, the last (`done` or `failed`) included; waits for those to come."""
        at = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda at=at: len(self._replies) > at)  # type: ignore[misc]
                reply = self._replies[at]
            yield reply
            at += 1
            if reply.get("reply") in LAST:
                return

    @property
    def replies(self) -> list[dict[str, Any]]:
        """The replies so far; does not wait."""
        with self._changed:
            return list(self._replies)

    def done(self) -> bool:
        """Whether the last reply is there."""
        with self._changed:
            return self._ended()

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """What the command came to.

        Args:
            timeout: most seconds to wait; None waits for as long as it takes.

        Raises:
            InputError, WorkbenchError: it failed; the message says why and what to do.
            WasStopped: somebody asked for its end.
            WorkerDied: the process ended before it answered.
            TimeoutError: there is no last reply yet; the command goes on.
        """
        with self._changed:
            if not self._changed.wait_for(self._ended, timeout):
                raise TimeoutError(f"no answer within {timeout} seconds")
            last = self._replies[-1]
        if last["reply"] == "done":
            result: dict[str, Any] = last["result"]
            return result
        kinds = {"died": WorkerDied, "input": InputError, "stopped": WasStopped}
        kind = next((kind for name, kind in kinds.items() if last.get(name)), WorkbenchError)
        raise kind(str(last["problem"]), str(last["advice"]))


def finished(result: dict[str, Any]) -> Call:
    """A call that came to this: for what is known from earlier."""
    call = Call()
    call._add({"id": 0, "reply": "done", "result": result})
    return call


class Worker:
    """The process that owns the model, as seen from here. Every method may be called from any thread.

    Args:
        runs: the folder of runs; it is made when a run is.
        model: what the process loads when it starts: `pocket`, a Hugging Face id or a folder.
        command: how to start it; `--runs DIR --model NAME` are added. Default: `python -m workbench.worker`.
    """

    def __init__(self, runs: Path, model: str = "pocket", command: Sequence[str] | None = None) -> None:
        self.runs = runs.absolute()
        self._command = tuple(command or (sys.executable, "-m", "workbench.worker"))
        self._load = ["--model", model]  # the model that was loaded last, for a process that must be started again
        self._loads: dict[int, list[str]] = {}
        self._lock = threading.Condition()
        self._calls: dict[int, Call] = {}
        self._next = 1
        self._status = Status()
        self._notice: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._asked_to_restart = False
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._waits = 0
        self._keeper: threading.Thread | None = None

    def start(self) -> None:
        """Start the process, if it is not there yet. Returns at once; the model is loaded meanwhile.

        Raises:
            WorkbenchError: the process cannot be started at all.
        """
        with self._lock:
            if self._keeper is not None:
                return
            self._spawn()
            self._keeper = threading.Thread(target=self._keep, name="worker-keeper", daemon=True)
            self._keeper.start()

    def call(self, do: str, /, **arguments: Any) -> Call:
        """Send a command; see the table in `service.py`. Never waits and never raises: a failure is the call's."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            call = Call(number)
            try:
                line = to_line({"id": number, "do": do, **arguments})
            except (TypeError, ValueError) as error:
                call._add(_failed(number, f"{do} was given something that cannot be sent: {error}.", "Report this."))
                return call
            if not self._status.alive:
                call._add(_died(number, *self._why_not()))
                return call
            if do in LONG and self._notice is not None:
                self._notice = None
                self._change(error=None)
            if do == "load":
                self._loads[number] = _load_flags(arguments)
            self._calls[number] = call
            self._outbox.put(line)
        return call

    def stop(self, call: Call) -> None:
        """Have one command end, be it under way or waiting, and no other. What is over stays as it came out."""
        self.call("stop", of=call.number)

    def restart(self) -> None:
        """End the process at once and start a new one with the model that was loaded last.

        For what cannot be stopped otherwise, such as a download. A run that is being taught goes on from its last
        checkpoint with `resume`.
        """
        with self._lock:
            if self._process is not None and self._status.alive:
                self._asked_to_restart = True
                self._process.kill()

    def close(self, patience: float = 20.0) -> None:
        """Have the process save and end; it is killed after `patience` seconds. The worker is done with for good."""
        self._closing.set()
        with self._lock:
            process, keeper = self._process, self._keeper
            self._outbox.put(None)
        if process is None or keeper is None:
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
        keeper.join()

    @property
    def status(self) -> Status:
        """What was heard last."""
        return self._status

    def wait(self, holds: Callable[[Status], bool], timeout: float | None = None) -> Status:
        """The first status for which `holds` is true; raises TimeoutError after `timeout` seconds without one."""
        with self._lock:
            if not self._lock.wait_for(lambda: holds(self._status), timeout):
                raise TimeoutError(f"not within {timeout} seconds; the status is {self._status}")
            return self._status

    @property
    def pid(self) -> int | None:
        """The process's id; None if there is none now."""
        with self._lock:
            return self._process.pid if self._process is not None and self._status.alive else None

    # What follows runs in the keeper's thread, but for `_write`.

    def _spawn(self) -> None:
        try:
            # In a session of its own: Ctrl-C in a terminal is for the server, which then closes the worker in order.
            self._process = subprocess.Popen(
                [*self._command, "--runs", str(self.runs), *self._load],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise WorkbenchError(
                f"The worker process could not be started: {error}.", "Check the installation: pip install --upgrade ."
            ) from error
        self._outbox = queue.SimpleQueue()
        self._change(alive=True, state="loading", phase="Starting", run=None, error=self._notice)
        writer = threading.Thread(target=_write, args=(self._process, self._outbox), name="worker-writer", daemon=True)
        writer.start()

    def _keep(self) -> None:
        """Take in what the process says; when it ends, start it again."""
        while True:
            process = self._process
            assert process is not None and process.stdout is not None
            for line in process.stdout:
                self._take(line)
            code = process.wait()
            process.stdout.close()
            self._outbox.put(None)
            with self._lock:
                self._bury(code)
                pause = self._pause()
            if self._closing.wait(pause):
                return
            with self._lock:
                if self._closing.is_set():  # since the pause: nobody would end what is started now
                    return
                try:
                    self._spawn()
                except WorkbenchError as error:
                    self._change(error=str(error))
                    return

    def _take(self, line: bytes) -> None:
        try:
            reply = from_line(line)
            number = int(reply["id"])
        except (ValueError, KeyError, TypeError):
            return  # a stray print of a library
        with self._lock:
            if number == 0:
                said = {k: reply[k] for k in ("state", "model", "run", "phase", "error") if k in reply}
                said["error"] = said.get("error") or self._notice
                self._change(**said)
                return
            last = reply.get("reply") in LAST
            call = self._calls.pop(number, None) if last else self._calls.get(number)
            load = self._loads.pop(number, None) if last else None
            if load and reply["reply"] == "done":
                self._load = load
        if call is not None:
            call._add(reply)

    def _bury(self, code: int) -> None:
        """The process has ended: say so, and fail what was asked of it."""
        calls, self._calls, self._loads = self._calls, {}, {}
        taught = self._status.run if self._status.state in ("teaching", "stopping") else None
        problem, advice = _epitaph(code, taught, self._asked_to_restart)
        for number, call in calls.items():
            call._add(_died(number, problem, advice))
        if self._closing.is_set():
            self._change(alive=False, state="idle", phase="", run=None)
            return
        quiet = self._asked_to_restart and taught is None
        self._asked_to_restart = False
        self._notice = None if quiet else f"{problem} {advice}"
        self._change(
            alive=False,
            state="loading",
            phase="Starting again",
            run=None,
            error=self._notice,
            restarts=self._status.restarts + 1,
        )

    def _pause(self) -> float:
        """Seconds before the next start: none, unless it died several times within a minute."""
        now = time.monotonic()
        self._deaths.append(now)
        if len(self._deaths) < _DEATHS or now - self._deaths[0] > _WINDOW:
            self._waits = 0
            return 0.0
        pause = _BACK_OFF[min(self._waits, len(_BACK_OFF) - 1)]
        self._waits += 1
        self._change(
            phase=f"Starting again in {pause:.0f} seconds",
            error=f"{self._notice or 'The worker process ended.'} It has ended {_DEATHS} times within a minute, so it "
            f"is started again in {pause:.0f} seconds only.",
        )
        return pause

    def _why_not(self) -> tuple[str, str]:
        if self._closing.is_set():
            return "The worker was closed.", "Start the workbench again."
        if self._keeper is None:
            return "The worker was not started.", "Start it first: worker.start()."
        return "The worker process is not there just now.", "It is being started again; try again in a moment."

    def _change(self, **said: Any) -> None:
        changed = replace(self._status, **said)
        if changed != self._status:
            self._status = replace(changed, version=self._status.version + 1)
            self._lock.notify_all()


def _write(process: subprocess.Popen[bytes], outbox: queue.SimpleQueue[bytes | None]) -> None:
    """Send lines until None, then close the pipe. In a thread of its own: a full pipe must not hold up a page."""
    assert process.stdin is not None
    # The process may be gone: the keeper sees that by itself.
    with contextlib.suppress(OSError):
        while (line := outbox.get()) is not None:
            process.stdin.write(line)
            process.stdin.flush()
    with contextlib.suppress(OSError):
        process.stdin.close()


def _load_flags(arguments: dict[str, Any]) -> list[str]:
    """How to start a process that loads the same model."""
    flags = [(f"--{name}", arguments.get(name)) for name in ("model", "revision", "precision")]
    return [text for flag, value in flags if value for text in (flag, str(value))]


def _failed(number: int, problem: str, advice: str) -> dict[str, Any]:
    return {"id": number, "reply": "failed", "problem": problem, "advice": advice, "input": False}


def _died(number: int, problem: str, advice: str) -> dict[str, Any]:
    return {**_failed(number, problem, advice), "died": True}


def _epitaph(code: int, taught: str | None, asked: bool) -> tuple[str, str]:
    """What happened to the process, and what to do."""
    if asked:
        problem = "The worker process was ended at your request."
    elif code == -9:
        problem = "The worker process was killed (signal 9; the system does so when memory runs out)."
    elif code < 0:
        problem = f"The worker process was ended by signal {-code}."
    else:
        problem = f"The worker process ended by itself (exit status {code})."
    if taught is None:
        return problem, "It is being started again; then ask again."
    return (
        f"{problem} It was teaching run {taught}.",
        "It is being started again; Resume goes on from the run's last checkpoint, and no step is lost.",
    )
