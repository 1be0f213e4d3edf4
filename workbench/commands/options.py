"""Flags that several commands share, and the settings that they make."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands import screen
from workbench.commands.interrupt import Interrupt
from workbench.demonstrations import Columns, Reading, read, read_questions
from workbench.errors import InputError
from workbench.prompts import check_template
from workbench.runs.folder import default_runs
from workbench.settings import GROUPS, POCKET, PRECISIONS, Settings, own_defaults

if TYPE_CHECKING:
    from workbench.models import LoadedModel


def add_data(parser: argparse.ArgumentParser) -> None:
    """The demonstrations file and which of its columns is what."""
    kinds = "JSONL, JSON, CSV, TSV, Parquet, XLSX or text file, or the name of a set that comes along, such as zorbic"
    parser.add_argument("demonstrations", metavar="DEMOS", help=kinds)
    for field in ("prompt", "demonstration", "answer", "context"):
        parser.add_argument(f"--{field}-column", metavar="NAME", help=f"column that holds the {field}; '' if none does")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model."""
    parser.add_argument("--model", default=POCKET, help="pocket (bundled), a Hugging Face id, or a folder")
    parser.add_argument("--revision", help="branch, tag or commit of a Hugging Face model")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of the model's weights; 4-bit takes a quarter of bf16's memory (default: auto, which is fp32 on a CPU "
        "and bf16 on a GPU)",
    )


def load_model(options: argparse.Namespace) -> LoadedModel:
    """The model that the flags name; what a person should know about it is said."""
    # Here and not above: what is wrong with a file or a flag is said before torch is there, seconds earlier.
    from workbench.models import LoadingNote, load

    with warnings.catch_warnings(), downloading(options.model) as download:
        warnings.simplefilter("ignore", LoadingNote)
        loaded = load(options.model, revision=options.revision, precision=options.precision, **download)
    for note in loaded.notes:
        screen.say(note)
    return loaded


@contextmanager
def downloading(name: str) -> Iterator[dict[str, Any]]:
    """What `load` is told so that a model's download shows a bar and is stopped by Ctrl-C."""
    interrupt = Interrupt("Stopping ...")
    with interrupt.installed(), screen.Download(name) as bar:
        yield {"report": bar.see, "should_stop": interrupt}
    if interrupt():
        raise KeyboardInterrupt


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Where runs are kept."""
    parser.add_argument("--runs", type=Path, default=None, metavar="DIR", help="folder of runs (default: ./runs)")


def add_scorer(parser: argparse.ArgumentParser) -> None:
    """How answers to held-out questions are scored."""
    parser.add_argument(
        "--scorer",
        default="contains",
        metavar="NAME",
        help="how an answer to a held-out question is scored: contains, exact, choice, number, json, or one of the "
        "paper's (default: %(default)s)",
    )


def add_settings(parser: argparse.ArgumentParser, going_on: bool = False) -> None:
    """A flag for every setting, with its own sentence as help.

    Args:
        going_on: whether the command has --on, with which some defaults differ.
    """
    for group, kind in GROUPS.items():
        section = parser.add_argument_group(group, kind.__doc__.splitlines()[0])
        for field in fields(kind):
            flag = "--" + field.name.replace("_", "-")
            shown = f" (default: {_defaults(group, field, going_on)})".replace("%", "%%")
            help_text = str(field.metadata["help"]).replace("%", "%%") + shown
            if isinstance(field.default, bool):
                section.add_argument(flag, dest=field.name, action=argparse.BooleanOptionalAction, help=help_text)
                continue
            choices = field.metadata["choices"] or None
            section.add_argument(flag, dest=field.name, type=type(field.default), choices=choices, help=help_text)


def _defaults(group: str, field: Field[Any], going_on: bool) -> str:
    first = own_defaults(True).get(group, {}).get(field.name, field.default)
    second = own_defaults(True, going_on).get(group, {}).get(field.name, field.default)
    pocket = f"; pocket: {first}" if first != field.default else ""
    on = f"; pocket with --on: {second}" if second != first else ""
    return f"{field.default!r}{pocket}{on}"


def given_settings(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The values that the flags give, by group; nothing for a flag that was left out."""
    given = {group: {f.name: getattr(options, f.name, None) for f in fields(kind)} for group, kind in GROUPS.items()}
    return {group: {k: v for k, v in values.items() if v is not None} for group, values in given.items()}


def settings_from(options: argparse.Namespace, is_pocket: bool, going_on: bool = False) -> Settings:
    """The settings that the flags ask for, over the model's defaults. Raises InputError on a wrong value."""
    own = own_defaults(is_pocket, going_on)
    groups = {group: {**own.get(group, {}), **values} for group, values in given_settings(options).items()}
    settings = Settings.from_dict(groups)
    if settings.teacher.template:
        check_template(settings.teacher.template)
    return settings


def read_data(options: argparse.Namespace) -> Reading:
    """Read the demonstrations file, with the columns that the user named."""
    columns = Columns(
        prompt=options.prompt_column,
        demonstration=options.demonstration_column,
        answer=options.answer_column,
        context=options.context_column,
    )
    return read(Path(options.demonstrations), columns)


def runs_folder(options: argparse.Namespace) -> Path:
    """The folder of runs, made absolute. Raises InputError if it, or a folder it would be made in, is a file."""
    folder: Path = (options.runs or default_runs()).expanduser().absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"{there} is a file, not a folder of runs.", "Name a folder with --runs DIR.")
    return folder


def read_probes(path: str | None) -> Reading | None:
    """A user's own probes: rows with a prompt and an answer."""
    return None if path is None else read_questions(Path(path), need_answer=True)
