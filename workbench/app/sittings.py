"""Lists of questions that base, teacher and student have all answered. No Gradio here.

The worker makes them; the server owns them. A page that is loaded again finds the list that is being made, and a server
that is started again finds those that were finished, in the draft's folder.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from workbench.app.questions import find_run, saved_steps
from workbench.errors import WorkbenchError
from workbench.views.columns import CHANGES, change
from workbench.views.text import plain
from workbench.worker import Call, Worker
from workbench.worker.client import finished

What = Literal["held-out", "probes"]
Filter = Literal["all", "changed", "wrong"]

MARK = {True: "\N{CHECK MARK} right", False: "\N{BALLOT X} wrong", None: ""}

_COLUMNS = ("id", "tags", "question", "answer", "base", "teacher", "student")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_CELL = 300


@dataclass(frozen=True, slots=True)
class Sitting:
    """One list, as far as it is there.

    Attributes:
        about: the run as it was then; see `Sittings`.
        refused: why it was not made anew, and what to do.
    """

    run: str
    step: int | None
    what: What
    call: Call
    about: list[Any] | None = None
    refused: WorkbenchError | None = None

    @property
    def rows(self) -> list[dict[str, Any]] | None:
        """The finished list, the changed rows first; None before."""
        last = self._last
        if last.get("reply") != "done":
            return None
        rows = list(last["result"]["rows"])
        return sorted(rows, key=lambda row: CHANGES.index(change(row)))

    @property
    def progress(self) -> tuple[int, int] | None:
        """How many of how many questions, None if that is not known."""
        last = self._last
        return (int(last["done"]), int(last["of"])) if last.get("reply") == "progress" and "of" in last else None

    @property
    def problem(self) -> WorkbenchError | None:
        """Why there is no list, and what to do; None if it is well."""
        try:
            if self.call.done():
                self.call.result()
        except WorkbenchError as error:
            return error
        return None

    @property
    def going(self) -> bool:
        """Whether it is still being made."""
        return not self.call.done()

    @property
    def _last(self) -> dict[str, Any]:
        replies = self.call.replies
        return replies[-1] if replies else {}


class Sittings:
    """The lists that were asked for, the last one of each kind.

    Args:
        runs: the folder of runs.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._lock = threading.Lock()
        self._made: dict[tuple[str, int | None, What], Sitting] = {}
        self._replaced = 0
        self._folder = tempfile.TemporaryDirectory(prefix="workbench-lists-")

    def start(self, worker: Worker, run: str, step: int | None, what: What) -> Sitting:
        """Ask for a list, unless it is being made just now."""
        with self._lock:
            found = self._made.get((run, step, what))
            if found is None or not found.going:
                self._replaced += 0 if found is None else 1 + len(found.call.replies)
                call = worker.call("sit", run=run, step=step, what=what)
                found = Sitting(run, step, what, call, self._about(run, step))
                self._made[run, step, what] = found
                threading.Thread(target=self._keep, args=(found,), name="list", daemon=True).start()
            return found

    @property
    def going(self) -> list[Sitting]:
        """What is being made just now."""
        with self._lock:
            return [sitting for sitting in self._made.values() if sitting.going]

    def stop(self, worker: Worker) -> None:
        """Have it end, whatever else the worker does. The list before it, if there is one, stays."""
        for sitting in self.going:
            worker.stop(sitting.call)

    @property
    def version(self) -> int:
        """Another number whenever a list has changed."""
        with self._lock:
            return sum(1 + len(sitting.call.replies) for sitting in self._made.values()) + self._replaced

    def get(self, run: str, step: int | None, what: What) -> Sitting | None:
        """The list, if it was asked for."""
        with self._lock:
            key = (run, step, what)
            made = self._made.get(key)
            # Another run may have taken the name since, or this one was taught further.
            if made is not None and not made.going and made.about != self._about(run, step):
                self._replaced += 1 + len(made.call.replies)
                del self._made[key]
            if key not in self._made and (kept := self._kept(*key)) is not None:
                self._made[key] = kept
            made = self._made.get(key)
            # What could not be made anew takes nothing away of what was there.
            if made is not None and made.problem and (kept := self._kept(*key)) is not None:
                return replace(kept, refused=made.problem)
            return made

    def _keep(self, sitting: Sitting) -> None:
        """Wait for a list, and write it down."""
        about = sitting.about
        if about is None:
            return
        with contextlib.suppress(WorkbenchError, OSError):
            rows = sitting.call.result()["rows"]
            path = self._path(sitting.run, sitting.step, sitting.what)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps({"about": about, "rows": rows}), encoding="utf-8")
            os.replace(part, path)

    def _kept(self, run: str, step: int | None, what: What) -> Sitting | None:
        """A list that was written down, unless the run is another one now or has been taught further."""
        # Asked first, so that no text from a page becomes a path unless it is the name of a run.
        about = self._about(run, step)
        if about is None:
            return None
        try:
            held = json.loads(self._path(run, step, what).read_text(encoding="utf-8"))
            if held["about"] != about:
                return None
            return Sitting(run, step, what, finished({"rows": held["rows"]}), about)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _about(self, run: str, step: int | None) -> list[Any] | None:
        """What a list depends on: when the run was begun, and the step that was asked. None if there is no such run."""
        try:
            found = find_run(self._runs, run)
        except WorkbenchError:
            return None
        if found is None:
            return None
        return [found.config.get("started"), step or max(saved_steps(found), default=0)]

    def _path(self, run: str, step: int | None, what: What) -> Path:
        return self._runs / ".draft" / "lists" / f"{run}@{int(step or 0) or 'end'}-{what}.json"

    def download(self, sitting: Sitting) -> Path | None:
        """A file of the finished list, None before."""
        rows = sitting.rows
        if rows is None:
            return None
        at = "end" if sitting.step is None else f"step-{sitting.step}"
        path = Path(self._folder.name) / f"{sitting.run}-{at}-{sitting.what}.csv"
        write_csv(path, rows)
        return path


def chosen(rows: Sequence[dict[str, Any]], which: Filter) -> list[dict[str, Any]]:
    """The rows that a filter lets through, in their order."""
    if which == "changed":
        return [row for row in rows if change(row) in ("forgotten", "learned")]
    if which == "wrong":
        return [row for row in rows if row["student_right"] is False]
    return list(rows)


def headers(what: What) -> list[str]:
    """The columns of the table on the page."""
    teacher = ["Teacher"] if what == "held-out" else []
    return ["Change", "Question", "Right answer", "Base", *teacher, "Student"]


def table(rows: Sequence[dict[str, Any]], what: What) -> list[list[str]]:
    """The rows as plain text: right and wrong in words and signs."""
    return [
        [
            change(row),
            cut(row["question"]),
            cut(row["answer"] or ""),
            _said(row, "base"),
            *([_said(row, "teacher")] if what == "held-out" else []),
            _said(row, "student"),
        ]
        for row in rows
    ]


def _said(row: dict[str, Any], role: str) -> str:
    mark = MARK[row.get(f"{role}_right")]
    text = cut(row.get(role) or "(nothing)")
    return f"{mark}: {text}" if mark else text


def cut(text: Any, longest: int = _CELL) -> str:
    """A text short enough for a cell."""
    text = plain(str(text))
    return text if len(text) <= longest else f"{text[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


def summary(rows: Sequence[dict[str, Any]], what: What) -> str:
    """A sentence or two about a list."""
    if not rows:
        kind = "test questions with a right answer" if what == "held-out" else "questions to measure retention on"
        return f"This run has no {kind}, so there is nothing to mark."
    count = {name: sum(change(row) == name for row in rows) for name in CHANGES}
    right = {role: sum(bool(row.get(f"{role}_right")) for row in rows) for role in ("base", "teacher", "student")}
    if what == "probes":
        known = right["base"]
        return (
            f"Of {len(rows)} questions about other things the base knew {known}. The student still knows "
            f"{count['still right']} of those and forgot {count['forgotten']}."
        )
    unmarked = count["not marked"]
    if unmarked == len(rows):
        return (
            f"None of these {len(rows)} test questions has a right answer, so nothing is marked: compare the answers."
        )
    others = f" {unmarked} others have no right answer, so they are not marked." if unmarked else ""
    return (
        f"Of {len(rows) - unmarked} test questions, which were not taught, the base gets {right['base']} right, the "
        f"teacher {right['teacher']}, the student {right['student']}. It learned {count['learned']} and lost "
        f"{count['forgotten']}.{others}"
    )


def by_skill(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """What was forgotten, by name of skill: skill, known before, still known, forgotten; the worst first."""
    skills: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        for tag in row.get("tags") or ("no name",):
            skills.setdefault(str(tag), []).append(row)
    lines = []
    for tag, members in skills.items():
        known = [row for row in members if row["base_right"]]
        if known:
            lines.append((tag, len(known), sum(bool(row["student_right"]) for row in known)))
    lines.sort(key=lambda line: (line[2] / line[1], line[0]))
    return [[cut(tag, 60), str(known), str(still), str(known - still)] for tag, known, still in lines]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The whole list for a spreadsheet; a cell that it would take for a formula gets a quote before it."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("change", *_COLUMNS, "base_right", "teacher_right", "student_right"))
        for row in rows:
            values = [change(row), *(_plain(row.get(name)) for name in _COLUMNS)]
            rights = [_plain(row.get(f"{role}_right")) for role in ("base", "teacher", "student")]
            writer.writerow([_harmless(value) for value in (*values, *rights)])


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
