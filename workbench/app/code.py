"""Show the code: the command line and the Python lines that do what a page does, with the present values.

    code.button(partial(code.teach, desk))      inside a page: the button `Show the code` and what it opens

Both run as they stand, in the folder that the server was started in.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from pprint import pformat
from typing import Any, NamedTuple

from workbench.app.desk import QUIET, Desk
from workbench.errors import WorkbenchError
from workbench.settings import GROUPS, own_defaults


class Code(NamedTuple):
    """The same thing in two languages."""

    shell: str
    python: str


def examples(desk: Desk) -> Code:
    """Reading the examples and splitting them."""
    rows, _ = desk.drafts.files()
    seed = desk.drafts.settings.get("optim", {}).get("seed", 0)
    python = f"""from workbench import read, split

reading = read({_path(rows)!r})
parts = split(reading.rows, held_out={desk.drafts.choices.held_out}, seed={seed})
print(len(parts.teaching), "teach,", len(parts.held_out), "are kept back for the test")"""
    return Code(f"workbench check {_quoted(rows)}{_model(desk)}", python)


def check(desk: Desk, n: int = 50) -> Code:
    """Checking the teacher."""
    drafts = desk.drafts
    rows, _ = drafts.files()
    scorer = drafts.choices.scorer
    also = f" --scorer {shlex.quote(scorer)}" if scorer != "contains" else ""
    shell = f"workbench check {_quoted(rows)}{_model(desk)} --rows {n}{also}{_flags(drafts.settings)}"
    python = f"""import random

from workbench import Exam, Settings, decoder_for, load, read, verdict
from workbench.training.batches import make_prompts

{_settings(desk)}
loaded = load({_name(desk)!r})
rows = [row for row in read({_path(rows)!r}).rows if row.answer is not None]
random.Random(settings.optim.seed).shuffle(rows)
exam = Exam(
    loaded,
    make_prompts(loaded.tokenizer, settings),
    rows[:{n}],
    scorer={scorer!r},
    longest=settings.rollout.max_new_tokens,
)
decoder = decoder_for(loaded.model)
base, teacher = exam.sit(decoder).measure, exam.sit(decoder, shown=True).measure
print(base, teacher, *verdict(base, teacher), sep="\\n")"""
    return Code(shell, python)


def teach(desk: Desk, name: str | None = None) -> Code:
    """Teaching a run. The name is left to the command line if None."""
    drafts = desk.drafts
    rows, keep = drafts.files()
    chosen = drafts.choices
    flags = {
        "runs": _quoted(desk.runs),
        "method": drafts.method if drafts.method != "sdft" else None,
        "keep": _quoted(keep) if keep else None,
        "on": shlex.quote(chosen.on) if chosen.on else None,
        "name": shlex.quote(name) if name else None,
        "held-out": chosen.held_out if chosen.held_out != 0.3 else None,
        "scorer": shlex.quote(chosen.scorer) if chosen.scorer != "contains" else None,
        "evaluate-every": chosen.evaluate_every if chosen.evaluate_every != 50 else None,
        "save-every": chosen.save_every if chosen.save_every != 50 else None,
    }
    given = "".join(f" --{flag} {value}" for flag, value in flags.items() if value is not None)
    model = "" if chosen.on else _model(desk)
    shell = f"workbench teach {_quoted(rows)}{model}{given}{_flags(drafts.settings)}"
    kept = f"[*parts.keep, *read_questions({_path(keep)!r}).rows]" if keep else "parts.keep"
    more = "from workbench.adapters import merge_adapter\n" if chosen.on else ""
    on = ""
    if chosen.on:
        on = f"\nearlier = open_run({chosen.on!r}, runs)\nloaded = merge_adapter(loaded, earlier.adapter)"
    last = "\n    on=earlier.name,\n    before=earlier.adapter," if chosen.on else ""
    python = f"""from pathlib import Path

from workbench import Request, Session, Settings, begin, load, open_run, read, read_bundled, read_questions, split
from workbench.runs import free_name
{more}
{_settings(desk)}
runs = Path({_path(desk.runs)!r})
loaded = load({_name(desk)!r})
parts = split(read({_path(rows)!r}).rows, held_out={chosen.held_out}, seed=settings.optim.seed)
probes = read_bundled(loaded){on}
request = Request(
    name=free_name(runs, {(name or drafts.name or "run")!r}),
    method={drafts.method!r},
    settings=settings,
    teaching=parts.teaching,
    held_out=parts.held_out,
    keep={kept},
    probes=probes,
    scorer={chosen.scorer!r},
    evaluate_every={chosen.evaluate_every},
    save_every={chosen.save_every},
    source={_path(rows)!r},{last}
)
for event in Session(begin(request, loaded, runs), loaded).teach():
    print(event)"""
    return Code(shell, python)


def resume(desk: Desk, run: str) -> Code:
    """Going on with a run that was stopped."""
    shell = f"workbench resume {shlex.quote(run)} --runs {_quoted(desk.runs)}"
    python = f"""from pathlib import Path

from workbench import Session, open_run

for event in Session(open_run({run!r}, Path({_path(desk.runs)!r}))).teach():
    print(event)"""
    return Code(shell, python)


def compare(
    desk: Desk,
    run: str,
    question: str,
    shown: str = "",
    step: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    turns: Sequence[dict[str, str]] = (),
) -> Code:
    """Asking all three; after `turns` of a conversation, which the command line does not take."""
    flags = {
        "prompt": shlex.quote(question),
        "demonstration": shlex.quote(shown) if shown.strip() else None,
        "step": step,
        "temperature": temperature or None,
        "seed": seed or None,
    }
    given = "".join(f" --{flag} {value}" for flag, value in flags.items() if value is not None)
    shell = f"workbench compare {shlex.quote(run)} --runs {_quoted(desk.runs)}{given}"
    if turns:
        shell = "# The command line asks one question alone; the lines of Python ask it after what was said so far."
    prompt = (*turns, {"role": "user", "content": question}) if turns else question
    python = f"""from pathlib import Path

from workbench import Choice, Demonstration, Settings, answer, open_run, student_at
from workbench.training.batches import make_prompts

run = open_run({run!r}, Path({_path(desk.runs)!r}))
settings = Settings.from_dict(run.config["settings"])
roles = student_at(run, {step!r})
row = Demonstration(prompt={prompt!r}, demonstration={shown.strip() or None!r})
longest = settings.rollout.max_new_tokens
prompts = make_prompts(roles.loaded.tokenizer, settings)
tokens = prompts.tokenise_all([row], roles.loaded.longest, longest)[0]
asked = {{
    "base": (roles.base_decoder, tokens.student),
    "teacher": (roles.teacher_decoder(settings.teacher.teacher), tokens.teacher),
    "student": (roles.student_decoder, tokens.student),
}}
choice = Choice(temperature={temperature!r})
for role, (decoder, ids) in asked.items():
    print(role, *answer(decoder, roles.loaded, [ids], longest=longest, choice=choice, seed={seed!r}))"""
    return Code(shell, python)


def runs(desk: Desk) -> Code:
    """Listing all runs."""
    python = f"""from pathlib import Path

from workbench import list_runs

for run in list_runs(Path({_path(desk.runs)!r})):
    print(run.summary())"""
    return Code(f"workbench runs --runs {_quoted(desk.runs)}", python)


def export(desk: Desk, run: str, kind: str, destination: str) -> Code:
    """Writing a run's result for other programs."""
    shell = f"workbench export {shlex.quote(run)} {shlex.quote(destination)} --to {kind} --runs {_quoted(desk.runs)}"
    python = f"""from pathlib import Path

from workbench import export_run, open_run

run = open_run({run!r}, Path({_path(desk.runs)!r}))
export_run(run, {kind!r}, Path({destination!r}).absolute())"""
    return Code(shell, python)


def model(name: str, revision: str | None = None) -> Code:
    """Loading a model."""
    also = f", revision={revision!r}" if revision else ""
    python = f"from workbench import load\n\nloaded = load({name!r}{also})\nprint(loaded.name, loaded.longest)"
    return Code(f"workbench app --model {shlex.quote(name)}", python)


def button(make: Callable[..., Code], inputs: Sequence[Any] = ()) -> None:
    """The button `Show the code` with what it opens.

    Args:
        make: gives the code for the values of `inputs`; its InputError is shown in place of the code.
    """
    import gradio as gr

    press = gr.Button("Show the code", size="sm", elem_classes="show-code")
    with gr.Accordion("The same without a browser", open=False, visible=False) as box:
        shell = gr.Code(label="Command line", language="shell", lines=1, interactive=False, wrap_lines=True)
        python = gr.Code(label="Python", language="python", lines=3, interactive=False)

    def show(*values: Any) -> list[Any]:
        try:
            made = make(*values)
        except WorkbenchError as error:
            made = Code("", "".join(f"# {line}\n" for line in str(error).splitlines()))
        # What is set on the page may be changed afterwards, and this is not.
        label = f"The same without a browser, as set at {time.strftime('%H:%M:%S')}"
        return [gr.update(visible=True, open=True, label=label), made.shell, made.python]

    press.click(show, list(inputs), [box, shell, python], **QUIET)


def _name(desk: Desk) -> str:
    return desk.worker.status.model or "pocket"


def _model(desk: Desk) -> str:
    name = _name(desk)
    return "" if name == "pocket" else f" --model {shlex.quote(name)}"


def _flags(settings: dict[str, dict[str, Any]]) -> str:
    """Settings that differ from the defaults, as flags."""
    parts = []
    for group in GROUPS:
        for name, value in settings.get(group, {}).items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                parts.append(f" --{flag}" if value else f" --no-{flag}")
            else:
                parts.append(f" --{flag} {shlex.quote(str(value))}")
    return "".join(parts)


def _settings(desk: Desk) -> str:
    """The line that makes the settings: the model's defaults, and what was chosen over them."""
    own = own_defaults(_name(desk) == "pocket", desk.drafts.choices.on is not None)
    chosen = desk.drafts.settings
    groups = {g: {**own.get(g, {}), **chosen.get(g, {})} for g in GROUPS if own.get(g) or chosen.get(g)}
    return (
        f"settings = Settings.from_dict({pformat(groups, width=90, sort_dicts=False)})"
        if groups
        else ("settings = Settings()")
    )


def _path(path: Path) -> str:
    """A path as one would write it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _quoted(path: Path) -> str:
    return shlex.quote(_path(path))
