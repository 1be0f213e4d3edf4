"""Runs and adapters as zip files. What comes in is not trusted: names, sizes and contents are checked. No torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.errors import InputError, WorkbenchError
from workbench.runs.folder import SPLITS, Run, clear_disk_errors, free_name, unfinished
from workbench.settings import Settings

MOST_FILES = 2000
MOST_BYTES = 1 << 30

_ADAPTER = r"adapter_config\.json|adapter_model\.safetensors"
_RUN_FILES = re.compile(
    rf"config\.json|demonstrations\.jsonl|probes\.jsonl|events\.jsonl|note\.txt|(?:adapter|before)/(?:{_ADAPTER})"
    r"|checkpoints/step-\d{6,9}/(?:state\.safetensors|state\.json|manifest\.json)"
)
_ADAPTER_FILES = re.compile(_ADAPTER)
_PASSED_OVER = re.compile(
    r"(?:.*/)?(?:lock|recipe\.json|README\.md|LICENSE|\.DS_Store|\.gitattributes)|(?:.*/)?__MACOSX/.*"
)
# What PEFT, transformers and TRL write beside an adapter; it is never unpacked.
_BESIDE_ADAPTER = re.compile(
    r"tokenizer(?:_config)?\.json|special_tokens_map\.json|added_tokens\.json|vocab\.(?:json|txt)|merges\.txt"
    r"|tokenizer\.model|spiece\.model|chat_template\.(?:jinja|json)|generation_config\.json|training_args\.bin"
    r"|checkpoint-\d+/.*"
)
_MODEL_WEIGHTS = re.compile(r"(?:model|pytorch_model)(?:-\d+-of-\d+)?\.(?:safetensors|bin)")
_MODEL = re.compile(r"pocket|[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def pack(folder: Path, destination: Path) -> Path:
    """A zip of a folder's files, under the folder's name.

    Left out are links, a run's lock, and what is hidden: a process that was killed while it saved leaves such a folder.
    """
    with (
        clear_disk_errors(destination),
        zipfile.ZipFile(destination, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
    ):
        named = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
        files = {name: path for name, path in named.items() if path.is_file() and not path.is_symlink()}
        for name, path in files.items():
            if not _is_hidden(name) and name != "lock":
                made.write(path, str(PurePosixPath(folder.name) / name))  # one that has gone meanwhile is an error
    return destination


def unpack(file: Path, folder: Path) -> str:
    """Unpack a zip of a run or of a PEFT adapter into a new folder; returns `run` or `adapter`.

    Nothing but the known files of a run or an adapter is written, and nothing outside `folder`, which is removed again
    if anything is wrong.

    Raises:
        InputError: it is no zip, holds something else, or too much.
    """
    try:
        with zipfile.ZipFile(file) as packed:
            members, kind = _members(packed)
            with clear_disk_errors(folder):
                folder.mkdir(parents=True)
                try:
                    _extract(packed, members, folder)
                    (_check_run if kind == "run" else _check_adapter)(folder)
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise InputError(
            f"The file cannot be read as a zip: {error}.",
            "If it was copied or downloaded, part of it may be missing: do that again. Else zip the folder again, "
            "unencrypted.",
        ) from error
    return kind


def import_run(file: Path, runs: Path, name: str) -> Run:
    """A run from a zip that `pack` made of its folder, under a free name.

    Raises:
        InputError: something in the zip is wrong; nothing is left behind.
    """
    with unfinished(runs, "import") as making:
        if unpack(file, making) != "run":
            raise InputError("This zip holds an adapter, not a run.", "Import it as an adapter.")
        (making / "checkpoints").mkdir(exist_ok=True)
        target = runs / free_name(runs, name)
        os.rename(making, target)
    return Run(target)


def _members(packed: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], str]:
    """The files to be unpacked by their names within the run or adapter, and which of the two it is."""
    infos = [info for info in packed.infolist() if not info.is_dir()]
    if len(infos) > MOST_FILES:
        raise InputError(f"The zip holds {len(infos)} files; {MOST_FILES} are the most.", "Zip one run only.")
    for info in infos:
        name = info.filename
        if "\\" in name or ":" in name or name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise InputError(f"The zip names a file outside of itself: {name[:200]!r}.", "Zip the folder again.")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(f"The zip holds a link: {name[:200]!r}.", "Zip the files themselves.")
    infos = [info for info in infos if not _PASSED_OVER.fullmatch(info.filename)]
    roots = {info.filename.split("/")[0] + "/" for info in infos if "/" in info.filename}
    flat = any(info.filename in ("config.json", "adapter_config.json") for info in infos)
    root = "" if flat or len(roots) != 1 else roots.pop()
    named = {info.filename.removeprefix(root): info for info in infos}
    named = {name: info for name, info in named.items() if not _is_hidden(name)}
    if sum(info.file_size for info in named.values()) > MOST_BYTES:
        raise InputError("The zip would unpack to more than 1 GB.", "Leave checkpoints out that you do not need.")
    kind = "run" if "config.json" in named else "adapter" if "adapter_config.json" in named else ""
    if not kind:
        raise InputError(
            "The zip holds neither a run (config.json) nor an adapter (adapter_config.json).",
            "Zip the folder of a run, or one that PEFT saved.",
        )
    if kind == "run" and any(_MODEL_WEIGHTS.fullmatch(name) for name in named):
        raise InputError(
            "The zip holds a whole model, not a run or an adapter.",
            "Unzip it, and load its folder on the Model page.",
        )
    if kind == "adapter":
        named = {name: info for name, info in named.items() if not _BESIDE_ADAPTER.fullmatch(name)}
        if "adapter_model.bin" in named:
            raise InputError(
                "The adapter in the zip is a pickle (adapter_model.bin), which can run any code when it is opened.",
                "Save it with PEFT as safetensors: model.save_pretrained(folder, safe_serialization=True).",
            )
    allowed = _RUN_FILES if kind == "run" else _ADAPTER_FILES
    strange = next((name for name in named if not allowed.fullmatch(name)), None)
    if strange is not None:
        raise InputError(f"The zip holds what no {kind} has: {strange[:200]!r}.", "Leave it out and zip again.")
    return named, kind


def _is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it is in, has a name that begins with a dot. `name` is within the run."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _extract(packed: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folder: Path) -> None:
    left = MOST_BYTES
    for name, info in members.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(info) as source, target.open("xb") as sink:
            # What a zip says of its sizes may be untrue.
            while block := source.read(1 << 20):
                left -= len(block)
                if left < 0:
                    raise InputError("The zip unpacks to more than 1 GB.", "Leave checkpoints out.")
                sink.write(block)


def _check_run(folder: Path) -> None:
    """Read everything that a run holds once, as the rest of the workbench will."""
    run = Run(folder)
    _reading("config.json", lambda: _check_config(run.config))
    _reading("demonstrations.jsonl", lambda: [run.rows(split) for split in SPLITS])
    _reading("probes.jsonl", run.probes)
    _reading("events.jsonl", run.log.read)
    _check_tensors(folder)


def _check_config(config: dict[str, Any]) -> None:
    if not isinstance(config, dict):
        raise ValueError("it is no object")
    Settings.from_dict(config["settings"])
    if not _MODEL.fullmatch(str(config["model"])):
        # A path of another machine; here it could name anything.
        raise InputError(
            f"The run is of the model {str(config['model'])[:200]!r}, which is neither pocket nor a hub id.",
            "Only runs of those can be imported; of others import the adapter.",
        )
    for key in ("method", "started", "scorer"):
        if not isinstance(config[key], str):
            raise ValueError(f"{key} is no text")
    if int(config["evaluate_every"]) < 1 or int(config["save_every"]) < 1:
        raise ValueError("evaluate_every and save_every must be 1 or more")


def _check_adapter(folder: Path) -> None:
    if not (folder / "adapter_model.safetensors").is_file():
        raise InputError("The zip has no adapter_model.safetensors.", "Save the adapter with PEFT as safetensors.")
    about = _reading("adapter_config.json", lambda: json.loads((folder / "adapter_config.json").read_text("utf-8")))
    if not isinstance(about, dict):
        raise InputError("adapter_config.json is no object.", "Save the adapter with PEFT again.")
    _check_tensors(folder)


def _check_tensors(folder: Path) -> None:
    """Each safetensors file begins with the length of a JSON object that fits into it."""
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            begin = file.read(8)
            length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0
            if not 2 <= length <= min(path.stat().st_size - 8, 100_000_000) or file.read(1) != b"{":
                raise InputError(f"{path.name} is no safetensors file.", "Zip the folder again from the original.")


def _reading(name: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except WorkbenchError as error:
        raise InputError(f"{name} cannot be used: {error.problem}", error.advice) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{name} cannot be used: {what}.", "The run was made by another program or is damaged."
        ) from error
