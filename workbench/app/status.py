"""The header of every page: the status line, and the four steps with whether the next can begin. Words and HTML."""

from __future__ import annotations

from html import escape

from workbench.app.desk import Cursor, Desk
from workbench.app.questions import run_names
from workbench.errors import WorkbenchError
from workbench.events import Evaluated, Event, RunEnded, Step
from workbench.views.words import steps_of

VERDICTS = {
    "ready": "ready to teach",
    "weak": "can be taught, but look at it first",
    "cannot": "this model cannot do it even when shown how",
}


def sentence(desk: Desk) -> str:
    """What is going on, and what to do if something is wrong."""
    status = desk.worker.status
    name = status.model or "the model"
    if status.error:
        here = status.alive and status.state == "idle" and status.model is not None
        after = f"{status.phase}." if status.phase else f"The model {name} is in memory." if here else ""
        return f"{status.error} {after}".strip().replace("\n", " ")
    if not status.alive or status.state == "loading":
        return f"{status.phase or 'Loading the model'}. You can prepare your examples meanwhile."
    if status.state == "teaching":
        where = _step_of(desk, status.run) or ("" if status.phase else "getting ready")
        # The phase that is named as the state is says nothing more.
        phase = "" if status.phase in ("", "Teaching") else _lower(status.phase)
        return f"Teaching {status.run}: {', '.join(part for part in (phase, where) if part)}."
    if status.state == "stopping" and status.run is None:
        return "Stopping."
    if status.state == "stopping":
        return f"Stopping {status.run}: what was learned so far is being saved."
    if status.state == "checking":
        return f"Checking the teacher: {_lower(status.phase or 'asking questions')}."
    if status.state == "working":
        return f"{status.phase or 'Working'}."
    return f"Ready. The model {name} is in memory."


OPENING = '<p class="status-line status-busy status-opening">Opening the page ...</p>'
"""The status line until the page has been told how things stand: before that it is not ready for anything."""


def status_html(desk: Desk) -> str:
    """The status line."""
    status = desk.worker.status
    kind = "error" if status.error else "busy" if status.state != "idle" or not status.alive else "ready"
    draft = f" {desk.drafts.notice}" if desk.drafts.notice else ""
    return f'<p class="status-line status-{kind}">{escape(sentence(desk) + draft, quote=True)}</p>'


def steps(desk: Desk) -> list[tuple[str, str, bool]]:
    """The four steps: name, how it stands, and whether it is done."""
    return [_examples(desk), _check(desk), _teach(desk), _compare(desk)]


def changed_since(desk: Desk) -> str:
    """What has changed since the last check, so that it no longer holds; empty if nothing has, or none was made."""
    found, model = desk.drafts.check, desk.worker.status.model
    if found is None:
        return ""
    if found.get("of") != desk.drafts.fingerprint():
        return "the examples or settings have changed"
    # While a model is being loaded there is none; a check of an older version does not say which it asked.
    return "another model was loaded" if None not in (model, found.get("model")) and found["model"] != model else ""


def steps_html(desk: Desk) -> str:
    """The four steps as a list."""
    hidden = "<span class=visually-hidden> (done)</span>"
    items = [
        f'<li class="step{" step-done" if done else ""}"><b>{number} {name}</b> '
        f"<span>{escape(words, quote=True)}</span>{hidden if done else ''}</li>"
        for number, (name, words, done) in enumerate(steps(desk), start=1)
    ]
    return f'<ol class="steps" aria-label="The four steps">{"".join(items)}</ol>'


def poll(desk: Desk, cursor: Cursor, unchanged: object) -> list[object]:
    """The header's two parts, each only if it is not what was shown last. All viewers share what is made."""
    status, drafts = desk.worker.status, desk.drafts
    logs = desk.mark(status.run), desk.mark(drafts.run)
    state = None if None in logs else (status, drafts.version, drafts.notice, *logs)
    line, four = desk.made.once("header", state, lambda: (status_html(desk), steps_html(desk)))
    updates: list[object] = []
    for key, made in (("status.line", line), ("status.steps", four)):
        updates.append(unchanged if cursor.get(key) == made else made)
        cursor[key] = made
    return updates


def _examples(desk: Desk) -> tuple[str, str, bool]:
    drafts = desk.drafts
    if not drafts.rows:
        return "Examples", "choose or write some", False
    wrong = len(drafts.problems)
    also = f", {wrong} wrong" if wrong else ""
    try:
        parts = drafts.split()
    except WorkbenchError as error:
        return "Examples", error.problem, False
    return "Examples", f"{len(parts.teaching)} teach, {len(parts.held_out)} kept back{also}", True


def _check(desk: Desk) -> tuple[str, str, bool]:
    found = desk.drafts.check
    if desk.worker.status.state == "checking":
        return "Check", "going on", False
    since = changed_since(desk)
    if found is not None and not since:
        verdict = str(found.get("verdict"))
        # No tick beside a verdict that says to look first, or not to go on.
        return "Check", VERDICTS.get(verdict, "done"), verdict == "ready"
    if found is not None and desk.drafts.rows:
        return "Check", f"{since} since", False
    return "Check", "can begin" if desk.drafts.good else "needs examples", False


def _teach(desk: Desk) -> tuple[str, str, bool]:
    status = desk.worker.status
    if status.state in ("teaching", "stopping") and status.run is not None:
        return "Teach", ", ".join(part for part in (status.run, _step_of(desk, status.run)) if part), False
    events = _events(desk, desk.drafts.run)
    if any(isinstance(event, RunEnded) for event in events):
        last = next((e for e in reversed(events) if isinstance(e, Evaluated)), None)
        skill = f": {last.skill.value:.0%} right" if last is not None and last.skill is not None else ""
        return "Teach", f"{desk.drafts.run} is finished{skill}", True
    if events:
        return "Teach", f"{desk.drafts.run} can be resumed, {_step_of(desk, desk.drafts.run)}".removesuffix(", "), False
    return "Teach", "can begin" if _examples(desk)[2] else "needs examples", False


def _compare(desk: Desk) -> tuple[str, str, bool]:
    events = _events(desk, desk.drafts.run)
    # A run that was imported has an end, and no steps. While a new one begins the others can be asked.
    taught = any(isinstance(event, Step | RunEnded) for event in events) or bool(run_names(desk.runs))
    return "Compare", "can begin" if taught else "base and teacher only, until something is taught", False


def _step_of(desk: Desk, run: str | None) -> str:
    events = _events(desk, run)
    last = next((e for e in reversed(events) if isinstance(e, Step)), None)
    if last is not None:
        return f"step {last.step} of {last.steps}"
    steps = steps_of(events)
    return f"{steps} steps to go" if steps else ""


def _events(desk: Desk, run: str | None) -> list[Event]:
    try:
        return desk.events(run) if run else []
    except WorkbenchError:
        return []


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
