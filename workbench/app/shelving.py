"""What the page Runs does: list, open, rename, note, duplicate, delete, import. No Gradio here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from workbench.app.desk import Desk
from workbench.app.teaching import default_of, events_of, run_names
from workbench.errors import InputError, WorkbenchError
from workbench.events import Evaluated, Event
from workbench.runs import Run, free_name, list_runs, shelf, zips
from workbench.settings import GROUPS
from workbench.views.curves import overlay, sparkline
from workbench.views.meters import before, known, latest
from workbench.views.text import escape, percent, shown
from workbench.views.words import is_finished, is_taught, step_of, steps_of

SHOWN = 40
"""Runs in the table, the newest; every run is in the list to choose from."""

IMPORT_SECONDS = 600.0


def state_of(desk: Desk, run: Run, events: Sequence[Event]) -> str:
    """finished, being taught, stopped, or damaged."""
    if is_taught(run.name, desk.worker.status):
        return "being taught"
    if is_finished(events):
        return "finished"
    try:
        run.config["settings"]["optim"]["steps"]
    except (WorkbenchError, KeyError, TypeError):
        return "damaged"
    return "stopped"


def records(desk: Desk) -> list[dict[str, Any]]:
    """Every run as plain values, the newest first; what `/runs` gives."""
    made = []
    for run in reversed(list_runs(desk.runs)):
        events = events_of(desk, run.name)
        config = _config(run)
        skill, retention, measured = latest(events)
        step = step_of(events)
        if step and not measured:
            skill = retention = None  # they are those of the model as it was before
        made.append(
            {
                "run": run.name,
                "state": state_of(desk, run, events),
                "method": config.get("method"),
                "model": config.get("model"),
                "data": str(config.get("source") or ""),
                "on": config.get("on"),
                "step": step,
                "steps": steps_of(events),
                "skill": None if skill is None else round(skill.value, 4),
                "retention": None if retention is None else round(retention.value, 4),
                "started": config.get("started"),
                "note": shelf.note_of(run),
            }
        )
    return made


def _config(run: Run) -> dict[str, Any]:
    try:
        config = run.config
    except WorkbenchError:
        return {}
    return config if isinstance(config, dict) else {}


def mark(desk: Desk) -> tuple[Any, ...]:
    """What the table depends on: it is drawn again when this has changed, which a step alone does not."""
    made: list[Any] = []
    for run in list_runs(desk.runs):
        events = events_of(desk, run.name)
        measured = next((e.step for e in reversed(events) if isinstance(e, Evaluated)), len(events[:3]))
        made.append((run.name, state_of(desk, run, events), measured, shelf.note_of(run)))
    return (*made, *shelf.put_away_runs(desk.runs)[:1])


def table_html(desk: Desk, chosen: str | None = None) -> str:
    """All runs with their curves; the chosen one, which the buttons below are about, stands out."""
    found = records(desk)
    if not found:
        return (
            '<div class="wb"><p class="wb-note">There are no runs yet. Start one on the Teach page, or import one '
            "below.</p></div>"
        )
    rows = "".join(_row(desk, record, chosen) for record in found[:SHOWN])
    more = len(found) - SHOWN
    rest = f'<p class="wb-note">And {more} older ones: choose them in the list below.</p>' if more > 0 else ""
    head = "".join(f'<th scope="col">{text}</th>' for text in HEADS)
    return (
        '<div class="wb"><div class="wb-wide" tabindex="0" role="region" aria-label="All runs"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{rest}</div>"
    )


_LONG = ' class="wb-long"'
HEADS = ("Run", "State", "Skill", "Kept", "Curve", "Method", "Data", "Started")
"""Over the columns; on a phone, where each run is a card, before each line of it."""


def _row(desk: Desk, record: dict[str, Any], chosen: str | None) -> str:
    note = f'<div class="wb-note">{shown(record["note"], 120)}</div>' if record["note"] else ""
    state = record["state"]
    if state == "stopped" and record["steps"]:
        state = f"stopped at {record['step']} of {record['steps']}"
    data = Path(record["data"]).name if record["data"].startswith("/") else record["data"]
    started = _here(str(record["started"] or ""))
    on = f' <span class="wb-muted">on {shown(str(record["on"]), 40)}</span>' if record["on"] else ""
    cells = [
        f"{shown(record['run'], 100)}{note}",
        escape(state),
        _share(record["skill"]),
        _share(record["retention"]) + _since(record),
        sparkline(events_of(desk, record["run"])),
        f"{escape(_method(record['method']))}{on}",
        shown(data or "-", 60),
        escape(started or "-"),
    ]
    here = ' aria-current="true"' if record["run"] == chosen else ""
    first, *rest = cells
    cells = [
        f'<td{_LONG if place in (0, 5, 6) else ""} data-label="{head}">{cell}</td>'
        for place, (head, cell) in enumerate(zip(HEADS[1:], rest, strict=True))
    ]
    return f'<tr{here}><th scope="row"{_LONG}>{first}</th>{"".join(cells)}</tr>'


def _method(name: Any) -> str:
    return str(name or "-").upper() if name in ("sdft", "sft") else str(name or "-")


def _here(when: str) -> str:
    """A time in this machine's own zone, to the minute."""
    try:
        return datetime.fromisoformat(when).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return when[:16]


def _share(value: float | None) -> str:
    return "-" if value is None else percent(value)


def _since(record: dict[str, Any]) -> str:
    """Whose knowledge the retention of a run that goes on from another is a share of."""
    if record["retention"] is None or not record["on"]:
        return ""
    return f' <span class="wb-muted">since {shown(str(record["on"]), 40)}</span>'


def open_it(desk: Desk, name: str | None) -> None:
    """Set the run of Teach and Compare."""
    desk.drafts.choose(run=named(desk, name).name)


def named(desk: Desk, name: str | None) -> Run:
    """The run that was chosen in the list."""
    if not name:
        raise InputError("No run is chosen.", "Choose one in the list.")
    return desk.run(name)


def rename(desk: Desk, name: str | None, new: str) -> str:
    """Call a run otherwise; returns its name."""
    made = shelf.rename(idle(desk, name), new)
    chosen = desk.drafts.choices
    renamed = {key: made.name for key in ("run", "on") if getattr(chosen, key) == name}
    desk.drafts.choose(**renamed)
    return made.name


def note(desk: Desk, name: str | None, text: str) -> None:
    """Note something about a run."""
    shelf.set_note(named(desk, name), text)


def duplicate(desk: Desk, name: str | None) -> None:
    """Put a run's settings and method into the draft."""
    config = named(desk, name).config
    groups = config["settings"]
    for group, kind in GROUPS.items():
        for field in kind.__dataclass_fields__:
            value = groups.get(group, {}).get(field)
            same = value is None or value == default_of(desk, group, field)
            desk.drafts.set_setting(group, field, None if same else value)
    kept = {key: config[key] for key in ("scorer", "evaluate_every", "save_every") if key in config}
    method = config.get("method")
    desk.drafts.choose(method=method if method in ("sdft", "sft") else "sdft", **kept)


def settings_said(desk: Desk, name: str) -> str:
    """What `duplicate` has put on the Teach page, in a sentence."""
    if _config(named(desk, name)).get("method") in ("sdft", "sft"):
        return f"The settings of {name} are on the Teach page now."
    return (
        f"{name} was imported as an adapter, and how it was taught is not known: only its LoRA settings are its own. "
        "Everything else on the Teach page is as usual for the model now."
    )


def teach_further(desk: Desk, name: str | None) -> None:
    """Have the next teaching begin with what this run has learned."""
    run = named(desk, name)
    if not run.adapter.is_dir():
        raise InputError(f"Run {run.name} is not finished, so it cannot be taught further.", "Resume it first.")
    desk.drafts.choose(on=run.name)


def delete(desk: Desk, name: str | None) -> str:
    """Put a run into the bin; returns its name. The newest of the others is in view then."""
    run = idle(desk, name)
    shelf.put_away(run)
    left = {"run": next(iter(run_names(desk)), None), "on": None}
    chosen = desk.drafts.choices
    desk.drafts.choose(**{key: value for key, value in left.items() if getattr(chosen, key) == name})
    return run.name


def undelete(desk: Desk) -> str:
    """Take the run out of the bin that was put there last, and look at it; returns its name."""
    found = shelf.put_away_runs(desk.runs)
    if not found:
        raise InputError("The bin is empty.", "Nothing was deleted.")
    name = shelf.take_out(desk.runs, found[0][0]).name
    desk.drafts.choose(run=name)
    return name


def idle(desk: Desk, name: str | None) -> Run:
    """The run that was chosen in the list, which nothing goes on with. Raises InputError if something does."""
    run = named(desk, name)
    status = desk.worker.status
    if status.run == run.name and status.state != "idle":
        raise InputError(f"Run {run.name} is in use just now.", "Stop it first, or wait.")
    packing = desk.tasks.get("runs.export")
    if packing is not None and packing.run == run.name and not packing.over.is_set():
        raise InputError(f"A zip of {run.name} is being made.", "Wait for it.")
    return run


def compare(desk: Desk, one: str | None, other: str | None) -> str:
    """Two runs: their curves over each other, and the settings in which they differ."""
    runs = [named(desk, one), named(desk, other)]
    if runs[0].path == runs[1].path:
        raise InputError("These are the same run.", "Choose two different ones.")
    drawn = overlay({run.name: events_of(desk, run.name) for run in runs})
    values = [_flat(_config(run), events_of(desk, run.name)) for run in runs]
    keys = [key for key in dict.fromkeys([*values[0], *values[1]]) if values[0].get(key) != values[1].get(key)]
    head = "".join(f'<th scope="col">{shown(run.name, 100)}</th>' for run in runs)
    rows = "".join(
        f'<tr><th scope="row">{escape(key)}</th>'
        + "".join(f"<td>{shown(str(value.get(key, '-')), 200)}</td>" for value in values)
        + "</tr>"
        for key in keys
    )
    table = (
        f'<div class="wb-wide" tabindex="0" role="region" aria-label="Differences"><table><thead><tr><th scope="col">'
        f"In what they differ</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return f'{drawn}<div class="wb">{table if keys else "<p>They have the same settings and examples.</p>"}</div>'


def _flat(config: dict[str, Any], events: Sequence[Event]) -> dict[str, str]:
    """What a run was made of and came to, in words."""
    groups = config.get("settings", {})
    skill, retention, step = latest(events)
    checked = before(events)
    made = {key: str(config.get(key) or "-") for key in ("method", "model", "source", "on", "scorer")}
    made |= {f"{group}: {name}": f"{v:g}" if isinstance(v, float) else str(v)
             for group, values in groups.items() for name, v in values.items()}  # fmt: skip
    made |= {key.replace("_", " "): str(config.get(key)) for key in ("evaluate_every", "save_every")}
    measured = {"skill": skill, "retention": retention} if step else {}
    made |= {f"{key} at the end": percent(measure.value) for key, measure in measured.items() if measure is not None}
    if config.get("on") and "retention at the end" in made:
        made["retention at the end"] += f" of {known(events)}"
    if checked is not None and checked.base is not None:
        made["skill before"] = percent(checked.base.value)
    return made


def bring_in(desk: Desk, file: str | None) -> str:
    """Import a zip of a run, or of a PEFT adapter for the model in memory; returns the run's name."""
    if not file:
        raise InputError("No file was chosen.", "Choose a zip of a run or of a PEFT adapter.")
    name = free_name(desk.runs, Path(file).name.removesuffix(".zip"))
    with tempfile.TemporaryDirectory(prefix="workbench-import-") as place:
        folder = Path(place) / name  # the run's record calls its source so
        if zips.unpack(Path(file), folder) == "run":
            return zips.import_run(Path(file), desk.runs, name).name
        try:
            made = desk.worker.call("import_adapter", folder=str(folder), name=name).result(IMPORT_SECONDS)
        except WorkbenchError as error:
            # The folder is this server's own affair, and gone as soon as this is read.
            raise type(error)(error.problem.replace(str(folder), Path(file).name), error.advice) from error
        return str(made["run"])
