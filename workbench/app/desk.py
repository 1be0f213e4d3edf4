"""What every page is given: the runs, the worker, what the person entered, and how a page keeps itself up to date."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.app.drafts import Draft
from workbench.app.sharing import Made
from workbench.errors import InputError
from workbench.events import Event, Step, from_dict
from workbench.runs import Run, open_run
from workbench.runs.folder import check_name
from workbench.worker import Worker

if TYPE_CHECKING:
    import gradio as gr

Cursor = dict[str, Any]
"""What one browser session has been shown already. A page's keys begin with its name: `teach.version`."""

CHOSEN = "chosen."
"""How keys begin that hold what was chosen in a session: they are no notes of what was shown."""

QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "show_progress_on": [],
    "queue": False,
}
"""How a handler is wired: no endpoint of its own, nothing drawn over what it changes, answered by the request itself.

Progress is hidden on no component at all, not on its outputs: twice at each event Gradio's page sets the progress of
every component that was ever the output of one, shown or not, and looks for each in the whole tree. That was nine
tenths of what a poll cost the browser.

Not by Gradio's queue: an event that joins it just as it closes the page's stream is never answered, for the page still
takes the stream to be open; and the button that was pressed is dead until the page is loaded anew.
"""

STREAM: dict[str, Any] = {**QUIET, "queue": True, "concurrency_limit": 16}
"""How one is wired that yields: only the queue streams. Several viewers do not wait for one another."""

LATEST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
"""How one is wired that follows a field: what is changed while it answers is taken once it has answered."""

Load = Callable[[], Sequence[Any]]
Tick = Callable[[Cursor], Sequence[Any]]


EACH = 1.0
"""Seconds between two polls of a page."""

_MANY = 3
"""So many pages may poll each second; more of them share that, so that a class does not slow the teaching down."""

_LONGEST = 2.2
"""But no page waits longer than this many seconds: within three it says that the worker was killed."""

_GONE = 15.0
"""Seconds after which a page that has not polled is no longer counted."""


class Viewers:
    """The pages that poll, to tell each how often it may."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def every(self, cursor: Cursor) -> float | None:
        """A page polls: the seconds until its next poll, None if that is as before."""
        # A page begins at the usual pace; later no note means that it may not have heard of its new one.
        before = cursor.get("timer.every", None if "viewer" in cursor else EACH)
        name, now = cursor.setdefault("viewer", secrets.token_hex(8)), self._clock()
        with self._lock:
            self._seen[name] = now
            self._seen = {viewer: at for viewer, at in self._seen.items() if now - at < _GONE}
            every = min(_LONGEST, max(EACH, round(len(self._seen) * EACH / _MANY, 1)))
        cursor["timer.every"] = every
        return None if every == before else every


@dataclass
class Desk:
    """One for each server. Every method may be called from any thread.

    Attributes:
        runs: the folder of runs, absolute.
        worker: the process that owns the model.
        drafts: what the person entered.
        tasks: what pages have going on the server, such as the check; a key is a page's name.
        viewers: the pages that poll.
        made: what they share.
    """

    runs: Path
    worker: Worker
    drafts: Draft
    tasks: dict[str, Any] = field(default_factory=dict)
    viewers: Viewers = field(default_factory=Viewers)
    made: Made = field(default_factory=Made)
    _logs: dict[str, _Log] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def at(cls, runs: Path, worker: Worker) -> Desk:
        """A desk over a folder of runs; the draft is read from it. The worker is not started here."""
        runs = runs.expanduser().absolute()
        return cls(runs, worker, Draft(runs / ".draft"))

    def run(self, name: str) -> Run:
        """A run of the folder. Raises InputError if there is none, or the name is no run's name but a path."""
        return open_run(check_name(name), self.runs)

    def events(self, name: str) -> list[Event]:
        """What happened in a run so far; only what was added since the last call is read.

        Steps come without their samples, which would fill the memory: see `step`. Until something is added everybody
        gets the same list, which is not to be changed.
        """
        mark, log = self.mark(name), self._logs.get(name)
        known = None if log is None or mark is None else log.known(mark)
        return self._log(name).events() if known is None else known

    def mark(self, name: str | None) -> _Mark | None:
        """Another value whenever a run's log has grown or is another file; None where there is none (yet)."""
        try:
            return _mark(os.stat(self.runs / check_name(name) / "events.jsonl")) if name else _NOTHING
        except (OSError, InputError):
            return None

    def step(self, name: str, step: int) -> Step | None:
        """One step of a run, with its samples; None if it is not there (yet)."""
        return self._log(name).step(step)

    def _log(self, name: str) -> _Log:
        path = self.run(name).log.path
        with self._lock:
            return self._logs.setdefault(name, _Log(path))


_Mark = tuple[int, int]
_NOTHING: _Mark = (0, 0)


def _mark(about: os.stat_result) -> _Mark:
    return about.st_ino, about.st_size


class _Log:
    """The events of one run, read on from where the last reading ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._events: list[Event] = []
        self._places: dict[int, tuple[int, int]] = {}  # step -> where its line begins and how long it is
        self._offset = 0
        self._file = -1
        self._given: tuple[_Mark, list[Event]] | None = None

    def known(self, mark: _Mark) -> list[Event] | None:
        """The events, if the file was read as it is now."""
        given = self._given
        return given[1] if given is not None and given[0] == mark else None

    def events(self) -> list[Event]:
        with self._lock:
            mark = self._read_on()
            events = list(self._events)
            self._given = None if mark is None else (mark, events)
            return events

    def step(self, step: int) -> Step | None:
        with self._lock:
            self._read_on()
            place = self._places.get(step)
            if place is None:
                return None
            with self._path.open("rb") as file:
                file.seek(place[0])
                event = from_dict(json.loads(file.read(place[1])))
            return event if isinstance(event, Step) else None

    def _read_on(self) -> _Mark | None:
        """Take in what was added; returns what the file was then, None if it cannot be read."""
        try:
            with self._path.open("rb") as file:
                number, size = mark = _mark(os.fstat(file.fileno()))
                if size < self._offset or number != self._file:
                    self._forget()  # another run has taken the place of this one
                    self._file = number
                file.seek(self._offset)
                added = file.read()
        except OSError:
            self._forget()
            return None
        for line in added[: added.rfind(b"\n") + 1].splitlines(keepends=True):
            try:
                event = from_dict(json.loads(line))
            except (ValueError, TypeError, KeyError):
                event = None  # a damaged line; `Run.summary` says so in the list of runs
            if isinstance(event, Step):
                self._places[event.step] = (self._offset, len(line))
                event = replace(event, samples=())
            if event is not None:
                self._events.append(event)
            self._offset += len(line)
        return mark


@dataclass
class Shared:
    """What the pages share. `server.build` makes it, calls each page's `build(desk, shared)`, and wires what they said.

    A page keeps itself up to date in two ways:

        def restore(desk) -> list: ...               # everything, from disk
        def poll(desk, cursor) -> list: ...          # gr.skip() for what has not changed

        shared.on_load(partial(restore, desk), [table, verdict])
        shared.on_tick(partial(poll, desk), [verdict], tab="check")

    `on_load` is for refresh, second tab and restart. `on_tick` is asked once a second, for all pages in one request;
    `cursor` is a dictionary that lives as long as the browser's session and is empty after each load: remember there
    what was shown last (`cursor["check.version"]`), and give `gr.skip()` for each output that need not change. With
    `tab` it is asked only while that tab is in view; what changed meanwhile shows as soon as it comes into view.
    Neither may wait for anything. One output may be named by several of them.

    `remember` keeps what is typed into a field, so that it outlives a refresh and a restart.

    Attributes:
        tabs: to change the tab: an event with `shared.tabs` among its outputs returns `gr.Tabs(selected="teach")`.
        status: the status line; it is kept up to date by itself.
        parts: components of a page that a later one fills in, such as Compare's `question`.
    """

    desk: Desk
    tabs: gr.Tabs
    status: gr.HTML
    timer: gr.Timer
    cursor: gr.State
    loads: list[tuple[Load, list[Any]]] = field(default_factory=list)
    ticks: list[tuple[Tick, list[Any], str | None]] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)

    def on_load(self, function: Load, outputs: Sequence[Any]) -> None:
        """Have `function()` give a value for each of `outputs` whenever the page is loaded."""
        self.loads.append((function, list(outputs)))

    def on_tick(self, function: Tick, outputs: Sequence[Any], tab: str | None = None) -> None:
        """Have `function(cursor)` give an update for each of `outputs` once a second."""
        self.ticks.append((function, list(outputs), tab))

    def remember(self, component: Any, key: str) -> None:
        """Keep what is typed into a text field under `key` (page name first)."""
        keep = self.desk.drafts.type
        for event in (component.input, component.blur):
            event(lambda text: keep(key, text), component, None, **LATEST)
        # What is pasted or dictated is no `input`. An empty field is no news here: it is so before it is filled in.
        component.change(lambda text: keep(key, text) if text else None, component, None, **LATEST)
        self.on_load(lambda: [self.desk.drafts.typed(key)], [component])
