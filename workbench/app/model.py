"""The page Model: which model, whether it fits, and loading it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from workbench.app import code, receipts
from workbench.app.asking import line
from workbench.app.compare import pocket_examples
from workbench.app.desk import QUIET, STREAM, Cursor, Desk, Shared
from workbench.app.lookup import (
    POCKET,
    PRECISIONS,
    Found,
    Lookups,
    about,
    kind_of,
    needs,
    verdict,
)
from workbench.app.status import sentence
from workbench.memory import QUANTISED, Machine, Shape, gigabytes, machine
from workbench.settings import GROUPS, POCKET_DEFAULTS, Settings
from workbench.views.text import escape
from workbench.worker import Call
from workbench.worker.protocol import DOWNLOADING

SAME: Any = gr.skip()
DEFAULT_HUB = "Qwen/Qwen3-4B-Instruct-2507"
SLOW = "{} on a CPU is slow: each pass turns the weights back into numbers first. It is meant for a GPU."
BUSY = ("teaching", "checking", "stopping", "working")
STUCK = "If it does not stop, cancel once more: the worker process is then ended and started again."
PRECISION_HELP = (
    "fp32: exact, 4 bytes a weight. bf16: half of that, for GPUs and larger models. 8-bit and 4-bit: one byte and "
    "half a byte, for one GPU. auto: fp32 on a CPU, bf16 on a GPU."
)
DOCTOR = (sys.executable, "-m", "workbench", "doctor")
MARKS = {
    "yes": "\N{CHECK MARK} Fits",
    "answers only": "! Fits for asking",
    "tight": "! Not just now",
    "no": "\N{BALLOT X} Does not fit",
}


@dataclass
class Loading:
    """The model that is being loaded, or was last; one for each server."""

    lookups: Lookups = field(default_factory=Lookups)
    name: str = ""
    call: Call | None = None
    began: float = 0.0
    cancelled: bool = False

    @property
    def going(self) -> bool:
        """Whether a model is being loaded at a person's request."""
        return self.call is not None and not self.call.done()


def build(desk: Desk, shared: Shared) -> None:
    """Declare the page's components and wire their handlers; called inside its tab."""
    loading: Loading = desk.tasks.setdefault("model", Loading())
    gr.HTML(
        "<p>The <b>pocket</b> model comes with the workbench and runs on any laptop. A larger one is downloaded from "
        "the Hugging Face hub, or read from a folder on this machine.</p>",
        padding=False,
    )
    now = gr.HTML(state(desk, loading), padding=False, elem_id="model-state")
    with gr.Row(equal_height=False):
        name = gr.Textbox(
            POCKET,
            label="Model",
            info=f"pocket, a name on the hub such as {DEFAULT_HUB}, or a folder's path.",
            elem_id="model-name",
            max_lines=1,
            scale=3,
            min_width=240,
        )
        precision = gr.Radio(
            list(PRECISIONS), value="auto", label="Precision", info=PRECISION_HELP, scale=3, min_width=240
        )
    with gr.Row():
        look = gr.Button("What does it need?", size="sm", min_width=160, scale=0)
        load = gr.Button("Load", variant="primary", size="sm", min_width=120, scale=0, elem_id="model-load")
        cancel = gr.Button("Cancel loading", size="sm", min_width=140, scale=0, visible=False)
    need = gr.HTML(estimate(desk, loading, POCKET, "auto"), padding=False, elem_id="model-needs")
    with gr.Accordion("What works on this machine", open=False):
        gr.HTML(
            "<p>The same as <code>workbench doctor</code>: card, memory, disk, programs, which precisions work.</p>",
            padding=False,
        )
        ask = gr.Button("Look", size="sm", min_width=120)
        found = gr.Textbox(label="What was found", lines=3, max_lines=30, interactive=False, visible="hidden")
    with gr.Column(visible=False) as pocket:
        gr.HTML(
            '<h2 class="compare-heading">What the pocket can do</h2><p>It knows seven small skills and 24 invented '
            "languages, and nothing else: it is there to be taught. What it cannot answer it makes up. Given an "
            "example it takes the answer from there, which is what a teacher must be able to do. Click a question "
            "to ask it on the Compare page.</p>",
            padding=False,
        )
        with gr.Row():
            datasets = pocket_examples()
    code.button(code.model, [name])

    ask.click(look_around, None, found, **STREAM)
    checked = [shared.cursor, name, precision]
    gr.on([look.click, name.submit], partial(ask_again, desk, loading), checked, need, **QUIET)
    gr.on([precision.input, name.blur], partial(view, desk, loading), checked, need, **QUIET)
    shown = [now, cancel]
    load.click(partial(start, desk, loading), checked, [*shown, need], **QUIET)
    cancel.click(partial(stop, desk, loading), None, shown, **QUIET)
    shared.remember(name, "model.name")
    shared.on_load(partial(restore, desk, loading), [name, *shown, pocket, need])
    shared.on_tick(partial(poll, desk, loading), [*shown, pocket, need], tab="model")
    question = shared.parts.get("question")
    for dataset in datasets:
        if question is not None:
            dataset.click(to_compare, dataset, [question, shared.tabs], **QUIET)


def look_around() -> Iterator[Any]:
    """The button Look: it takes some seconds, so it says at once that it has begun."""
    yield gr.update(value="Looking \N{HORIZONTAL ELLIPSIS}", visible=True)
    yield gr.update(value=doctor())


def doctor(command: Sequence[str] = DOCTOR, patience: float = 60.0) -> str:
    """What `workbench doctor` prints. It looks at the card through torch, which this process does not import."""
    try:
        # What a command says to people goes to stderr; stdout is for programs.
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patience, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = (getattr(error, "stdout", None) or str(error)).strip().splitlines()[-1]
        return f"It could not be found out: {why}. Run `workbench doctor` in a terminal."
    return done.stdout.strip()


def to_compare(sample: list[str]) -> tuple[Any, Any]:
    """Put a question into Compare's field and show that page."""
    return sample[0], gr.Tabs(selected="compare")


def restore(desk: Desk, loading: Loading) -> list[Any]:
    """Everything, for a page that is loaded again."""
    name = _name(desk)
    return [
        name,
        state(desk, loading),
        gr.update(visible=can_stop(desk, loading)),
        gr.update(visible=desk.worker.status.model == POCKET),
        estimate(desk, loading, name, "auto"),
    ]


def _name(desk: Desk) -> str:
    return desk.drafts.typed("model.name").strip() or desk.worker.status.model or POCKET


def poll(desk: Desk, loading: Loading, cursor: Cursor) -> list[Any]:
    """How loading goes, and whether what was asked of the hub has come."""
    said, waits = state(desk, loading), loading.lookups.version
    # Whether it is busy, too: a load that was refused for that need not be any more.
    seen = (said, can_stop(desk, loading), desk.worker.status.model, desk.worker.status.state in BUSY)
    updates: list[Any] = [SAME] * 4
    if cursor.get("model.seen") != seen:
        cursor["model.seen"] = seen
        updates[:3] = said, gr.update(visible=seen[1]), gr.update(visible=desk.worker.status.model == POCKET)
    asked = cursor.get("chosen.model.view", (_name(desk), "auto"))
    if cursor.get("model.found", 0) != waits:
        cursor["model.found"] = waits
        updates[3] = estimate(desk, loading, *asked)
    return updates


def start(desk: Desk, loading: Loading, cursor: Cursor, name: str, precision: str) -> list[Any]:
    """Have the worker load a model; how it goes is polled."""
    name = (name or "").strip()
    need = view(desk, loading, cursor, name, precision)
    if loading.going:
        return [line(f"{loading.name} is being loaded. Wait for it, or cancel it.", wrong=True), SAME, need]
    if not name:
        return [line("Write a model's name first: pocket, a name on the hub, or a folder.", wrong=True), SAME, need]
    found = loading.lookups.find(name)
    if found.problem and kind_of(name) != "hub":
        return [line(found.problem, wrong=True), SAME, need]
    if desk.worker.status.alive and desk.worker.status.state in BUSY:
        return [line(f"{sentence(desk)} Wait for it, or press Stop on the Teach page; then load {name}."), SAME, need]
    loading.name, loading.began, loading.cancelled = name, time.monotonic(), False
    loading.call = desk.worker.call("load", model=name, precision=precision)
    receipts.clicked(cursor)
    return [state(desk, loading), gr.update(visible=True), need]


def can_stop(desk: Desk, loading: Loading) -> bool:
    """Whether there is something to cancel: what a person asked for, or the download that the worker began with."""
    return loading.going or _downloads(desk)


def stop(desk: Desk, loading: Loading) -> list[Any]:
    """Give up loading. A download stops, and goes on from there when it is asked for again.

    Whatever else a load is at cannot be stopped: the worker process is ended and started again with the model that it
    had. So it is where a download was told to stop and does not, as nothing comes in.
    """
    if can_stop(desk, loading):
        loading.cancelled = loading.going
        if _downloads(desk):
            desk.worker.call("stop")
        else:
            desk.worker.restart()
    return [state(desk, loading), gr.update(visible=can_stop(desk, loading))]


def _downloads(desk: Desk) -> bool:
    return desk.worker.status.phase.startswith(DOWNLOADING)


def state(desk: Desk, loading: Loading) -> str:
    """Which model is in memory, and how loading another one goes."""
    status = desk.worker.status
    here = f"In memory: {status.model}." if status.model else "No model is in memory yet."
    if loading.going:
        took = int(time.monotonic() - loading.began)
        if status.state == "stopping":
            return line(f"Stopping the download of {loading.name}. {STUCK} {here}")
        phase = status.phase if loading.name in status.phase else f"Loading {loading.name}"
        return line(f"{phase}, {took} s so far. {here}")
    last = loading.call.replies[-1] if loading.call is not None and loading.call.replies else {}
    if loading.cancelled and last.get("died"):
        return line(f"Loading {loading.name} was cancelled; nothing has changed. {here}")
    if loading.cancelled and last.get("reply") == "failed":
        return line(f"{last['problem']} {last['advice']} {here}")
    if last.get("reply") == "failed":
        why = f"{last['problem']} {last['advice']}"
        found = loading.lookups.find(loading.name)
        if kind_of(loading.name) == "hub" and found.problem:
            why = found.problem  # the hub's own answer says more than what loading came to
        return line(f"{loading.name} was not loaded. {why} {here}", wrong=True)
    if last.get("reply") == "done" and status.model == loading.name:
        result = last["result"]
        return line(
            f"{here} {result['parameters']:,} weights, reads up to {result['longest']:,} tokens; loaded in "
            f"{result['seconds']:.1f} s."
        ) + "".join(map(line, result.get("notes", ())))
    if status.state == "loading":
        return line(f"{status.phase or 'Loading the model'}. {here}")
    return line(here)


def ask_again(desk: Desk, loading: Loading, cursor: Cursor, name: str, precision: str) -> str:
    """The same as `view`; what the hub could not say before is asked again."""
    loading.lookups.forget((name or "").strip())
    return view(desk, loading, cursor, name, precision)


def view(desk: Desk, loading: Loading, cursor: Cursor, name: str, precision: str) -> str:
    """What a model needs; the session now has this one in view, and sees what the hub says when that comes."""
    cursor["chosen.model.view"], cursor["model.found"] = (name, precision), loading.lookups.version
    return estimate(desk, loading, name, precision)


def estimate(desk: Desk, loading: Loading, name: str, precision: str) -> str:
    """What a model needs and what this machine has, as HTML."""
    name = (name or "").strip()
    if not name:
        return line("Write a model's name, and this says what it needs here.")
    found = loading.lookups.find(name)
    if found.shape is None:
        return line(about(found), wrong=not found.pending)
    note = line(SLOW.format(precision)) if precision in QUANTISED and not machine().gpu else ""
    return note + needs_html(found, found.shape, precision, settings_of(desk, name), machine())


def settings_of(desk: Desk, name: str) -> Settings:
    """The settings that teaching would have now."""
    own = POCKET_DEFAULTS if name == POCKET else {}
    chosen = desk.drafts.settings
    return Settings.from_dict({g: {**own.get(g, {}), **chosen.get(g, {})} for g in GROUPS})


def needs_html(found: Found, shape: Shape, precision: str, settings: Settings, here: Machine) -> str:
    """The verdict, and the sum behind it."""
    judged = verdict(shape, precision, settings, here)
    _, need = needs(shape, precision, settings, here)
    rows = "".join(
        f"<tr><td>{escape(p.name)}</td><td>{escape(gigabytes(p.size))}</td><td>{escape(p.why)}</td></tr>"
        for p in need.parts
    )
    totals = "".join(
        f"<tr><th scope=row>{name}</th><td><b>{gigabytes(size)}</b></td><td>{why}</td></tr>"
        for name, size, why in (
            ("To ask", need.asking, "weights, program, and the cache of three answers"),
            ("To teach", need.teaching, "the sum, of cache and activations with loss only the larger"),
            ("This machine", here.free, f"free of {gigabytes(here.total)}: {escape(here.name)}"),
        )
    )
    return (
        f'<div class="wb wb-state"><p><b>{MARKS[judged.fits]}.</b> {escape(judged.why)}</p></div>'
        f"{line(about(found))}"
        '<details class="wb compare-skills"><summary>The arithmetic</summary><table><thead><tr>'
        '<th scope="col">Part</th><th scope="col">About</th><th scope="col">How it comes about</th></tr></thead>'
        f"<tbody>{rows}{totals}</tbody></table></details>"
    )
