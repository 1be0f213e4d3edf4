"""A model's files from the Hugging Face hub: how large, whether there is room, and how far the download is.

huggingface_hub does the work. It keeps whole files: a download that was stopped goes on with those that are missing,
and the one under way begins anew (its 2.x deletes what it has of a file when it is interrupted).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.errors import InputError

_WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
_SECONDS = 10
_SPARE = 500_000_000

Report = Callable[[float, float], None]
"""Told how many bytes are there, and of how many."""


class _Stopped(Exception):
    """Raised inside the download to end it."""


def fetch(
    name: str, revision: str | None, report: Report = lambda done, total: None, should_stop: Callable[[], bool] = bool
) -> tuple[str, str]:
    """Download a model's weights, config and tokenizer, as far as they are not on this disk.

    Returns the folder that has them, and their commit.

    Args:
        report: called now and then.
        should_stop: asked as bytes come in.

    Raises:
        InputError: there is too little disk; the weights are pickled; it was stopped; the network failed half way.
    """
    from fnmatch import fnmatch

    from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    info = HfApi(endpoint=constants.ENDPOINT).model_info(name, revision=revision, files_metadata=True, timeout=_SECONDS)
    files = {f.rfilename: int(f.size or 0) for f in info.siblings or ()}
    files = {f: size for f, size in files.items() if "/" not in f and any(fnmatch(f, p) for p in _WANTED)}
    if not any(f.endswith(".safetensors") for f in files):
        raise InputError(
            f"The model {name} has no *.safetensors weights on huggingface.co; pickled ones are not read.",
            "Choose a version with safetensors, or convert it once on a machine you can lose.",
        )
    commit = str(info.sha)
    here = {f for f in files if isinstance(try_to_load_from_cache(name, f, revision=commit), str)}
    total, missing = sum(files.values()), sum(size for f, size in files.items() if f not in here)
    folder = next(p for p in (Path(constants.HF_HUB_CACHE), *Path(constants.HF_HUB_CACHE).parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if missing and missing + _SPARE > free:
        raise InputError(
            f"The model {name} needs {missing / 1e9:.1f} GB more on the disk of {folder}, which has "
            f"{free / 1e9:.1f} GB free.",
            "Make room (hf cache ls names what is there), or set HF_HOME to a larger disk.",
        )
    done: float = total - missing

    class Bar(tqdm):  # type: ignore[type-arg, misc, unused-ignore]
        """Reports in place of drawing."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.of_bytes = options.get("unit") == "B"
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            nonlocal done
            if should_stop():
                raise _Stopped
            if self.of_bytes:
                done = min(total, done + (n or 0))
                report(done, total)

    report(done, total)
    try:
        folder_of_it = snapshot_download(
            name,
            revision=commit,
            allow_patterns=sorted(files),
            tqdm_class=Bar,
            endpoint=constants.ENDPOINT,
            etag_timeout=_SECONDS,
        )
    except _Stopped:
        raise InputError(
            f"The download of {name} was stopped at {done / 1e9:.2f} of {total / 1e9:.2f} GB.",
            "Ask for the model again: files that were complete are kept.",
        ) from None
    except InputError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"The download of {name} broke off at {done / 1e9:.2f} of {total / 1e9:.2f} GB: {first}",
            "Check the network and ask for the model again: files that were complete are kept.",
        ) from error
    report(total, total)
    return str(folder_of_it), commit
