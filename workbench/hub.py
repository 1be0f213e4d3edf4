"""A model's files from the Hugging Face hub: how large, whether there is room, and how far the download is.

huggingface_hub does the work, but for one thing: its 2.x deletes what it has of a file when it is interrupted, and a
model's weights are a few files of gigabytes. So weights are first brought here by its `http_get` into a file beside
its own in its cache, from the byte where an earlier call stopped, and it finds them there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from workbench.errors import InputError

_WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
_CONFIG = "config.json"
_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_SECONDS = 10
_SPARE = 500_000_000
_AGAIN = "ask for the model again: it goes on from there."

Report = Callable[[float, float], None]
"""Told how many bytes are there, and of how many."""


class Halted(InputError):
    """A download was stopped because somebody asked for it."""

    exit_code = 1


class _Stopped(Exception):
    """Raised inside the download to end it."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """A file of weights that is not on this disk yet, or not whole.

    Attributes:
        mark: its SHA-256, which is its name in the cache.
    """

    file: str
    size: int
    mark: str
    whole: Path

    @property
    def part(self) -> Path:
        """What there is of it so far."""
        return self.whole.with_name(f"{self.mark}.incomplete")

    @property
    def here(self) -> int:
        """Bytes of it on this disk."""
        path = self.whole if self.whole.exists() else self.part
        return path.stat().st_size if path.exists() else 0


def config(name: str, revision: str | None = None) -> Path | None:
    """A model's config.json as the hub gives it now, on this disk; None where the hub does not answer.

    The hub is asked once and briefly, where its library goes on trying for up to a minute.

    Raises:
        InputError: the hub says that there is no such model, revision or file, or that it wants a token, and none of
            it is on this disk.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_download, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(name, _CONFIG, revision=revision), timeout=_SECONDS)
        return Path(hf_hub_download(name, _CONFIG, revision=revision, etag_timeout=_SECONDS))
    except Exception as error:  # noqa: BLE001 - whatever a broken network raises, the disk may hold the model
        refused = refusal(name, revision, error)
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
            refused = InputError(f"The model {name} has no {_CONFIG} on huggingface.co.", "Choose another model.")
        if refused is not None and held_config(name, revision) is None:
            raise refused from error
        return None


def held_config(name: str, revision: str | None = None) -> Path | None:
    """The config.json of a hub model that an earlier call brought to this disk."""
    from huggingface_hub import constants, errors, try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, _CONFIG, cache_dir=constants.HF_HUB_CACHE, revision=revision)
    except errors.HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def fetch(
    name: str,
    revision: str | None,
    report: Report = lambda done, total: None,
    should_stop: Callable[[], bool] = bool,
    begins: Callable[[str], None] = lambda file: None,
) -> tuple[str, str]:
    """Download a model's weights, config and tokenizer, as far as they are not on this disk.

    Returns the folder that has them, and their commit.

    Args:
        report: called now and then.
        should_stop: asked as bytes come in.
        begins: told each file of weights as its turn comes, and an empty text before what is left.

    Raises:
        Halted: it was stopped.
        InputError: there is too little disk; the weights are pickled; the hub does not give them; the network failed
            half way.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    done, total = 0.0, 0.0

    def came(size: float) -> None:
        nonlocal done
        if should_stop():
            raise _Stopped
        done = min(total, done + size)
        report(done, total)

    try:
        info = HfApi(endpoint=constants.ENDPOINT).model_info(
            name, revision=revision, files_metadata=True, timeout=_SECONDS
        )
        commit = str(info.sha)
        files = _read_ones(_wanted(name, info), lambda: _index(name, commit))
        weights, missing = _missing(name, commit, files)
        total = float(sum(int(f.size or 0) for f in files.values()))
        _check_room(name, missing)
        done = total - missing
        report(done, total)
        bar = _bar(came)
        for each in weights:
            begins(each.file)
            _take_up(name, commit, each, bar)
        begins("")
        folder = snapshot_download(
            name,
            revision=commit,
            allow_patterns=sorted(files),
            tqdm_class=bar,
            cache_dir=constants.HF_HUB_CACHE,
            endpoint=constants.ENDPOINT,
            etag_timeout=_SECONDS,
        )
    except _Stopped:
        raise Halted(
            f"The download of {name} was stopped at {done / 1e9:.2f} of {total / 1e9:.2f} GB.",
            _AGAIN.capitalize(),
        ) from None
    except InputError:
        raise
    except Exception as error:
        refused = refusal(name, revision, error)
        if refused is not None:
            raise refused from error
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"The download of {name} broke off at {done / 1e9:.2f} of {total / 1e9:.2f} GB: {first}",
            f"Check the network and {_AGAIN}",
        ) from error
    report(total, total)
    return str(folder), commit


def refusal(name: str, revision: str | None, error: Exception) -> InputError | None:
    """What the hub said about a model that it does not give, in words; None where the error says something else."""
    from huggingface_hub import errors

    advice = "Check the name on huggingface.co, or use pocket or a folder on this disk."
    match error:
        case errors.RevisionNotFoundError():
            return InputError(f"The model {name} has no revision {revision!r}.", advice)
        case errors.GatedRepoError():
            return InputError(
                f"The model {name} asks for its terms to be accepted first.",
                f"Accept them on huggingface.co/{name}, then sign in on this machine: hf auth login.",
            )
        case errors.RepositoryNotFoundError():
            return InputError(
                f"There is no model {name} on huggingface.co that can be seen from here.",
                f"{advice} For a private one sign in on this machine: hf auth login.",
            )
        case errors.HFValidationError():
            return InputError(f"{name!r} is neither a folder nor a Hugging Face id.", advice)
    return None


def _wanted(name: str, info: Any) -> dict[str, Any]:
    """The files of a model that are asked for, by name."""
    files = {f.rfilename: f for f in info.siblings or ()}
    files = {n: f for n, f in files.items() if "/" not in n and any(fnmatch(n, p) for p in _WANTED)}
    if not any(n.endswith(".safetensors") for n in files):
        raise InputError(
            f"The model {name} has no *.safetensors weights on huggingface.co; pickled ones are not read.",
            "Choose a version with safetensors, or convert it once on a machine you can lose.",
        )
    return files


def _read_ones(files: dict[str, Any], index: Callable[[], set[str]]) -> dict[str, Any]:
    """Without the weights that transformers would not read: Mistral's lie there a second time, in a form of its own."""
    weights = {n for n in files if n.endswith(".safetensors")}
    used = {_WHOLE} if _WHOLE in files else weights & index() if _INDEX in files else weights
    return {n: f for n, f in files.items() if n not in weights or n in (used or weights)}


def _index(name: str, commit: str) -> set[str]:
    """The files that a model's weights are spread over; none if what says so cannot be read."""
    from huggingface_hub import constants, hf_hub_download

    path = hf_hub_download(
        name,
        _INDEX,
        revision=commit,
        cache_dir=constants.HF_HUB_CACHE,
        endpoint=constants.ENDPOINT,
        etag_timeout=_SECONDS,
    )
    try:
        return {str(file) for file in json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


def _missing(name: str, commit: str, files: dict[str, Any]) -> tuple[list[_Weights], float]:
    """The weights that are not here, and how many bytes are missing of all files together."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.file_download import are_symlinks_supported, repo_folder_name

    cache = Path(constants.HF_HUB_CACHE)
    blobs = cache / repo_folder_name(repo_id=name, repo_type="model") / "blobs"
    # Without links its files are copied out of there: they would lie on the disk twice.
    own = not constants.HF_HUB_DISABLE_SYMLINKS and are_symlinks_supported(cache)
    weights: list[_Weights] = []
    missing = 0.0
    for file, said in files.items():
        if isinstance(try_to_load_from_cache(name, file, cache_dir=cache, revision=commit), str):
            continue
        size, mark = int(said.size or 0), said.lfs and str(said.lfs.sha256)
        missing += size
        if own and mark and file.endswith(".safetensors") and 0 < size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
            weights.append(_Weights(file, size, mark, blobs / mark))
            missing -= min(size, weights[-1].here)
    return weights, missing


def _check_room(name: str, missing: float) -> None:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    folder = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if missing and missing + _SPARE > free:
        raise InputError(
            f"The model {name} needs {missing / 1e9:.1f} GB more on the disk of {folder}, which has "
            f"{free / 1e9:.1f} GB free.",
            "Make room (hf cache ls names what is there), or set HF_HOME to a larger disk.",
        )


def _take_up(name: str, commit: str, weights: _Weights, bar: Any) -> None:
    """Bring a file of weights here, from where an earlier call stopped."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    # The library's own lock of this file: of several processes one downloads, and the others find it there.
    locks = Path(constants.HF_HUB_CACHE) / ".locks" / repo_folder_name(repo_id=name, repo_type="model")
    locks.mkdir(parents=True, exist_ok=True)
    weights.whole.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(locks / f"{weights.mark}.lock"):
        if weights.whole.exists():
            return
        had = weights.here
        if had > weights.size:
            weights.part.unlink()
            had = 0
        with weights.part.open("ab") as file:
            http_get(
                hf_hub_url(name, weights.file, revision=commit, endpoint=constants.ENDPOINT),
                file,
                resume_size=had,
                headers=build_hf_headers(),
                expected_size=weights.size,
                displayed_filename=weights.file,
                tqdm_class=bar,
            )
        if had and _digest(weights.part) != weights.mark:
            weights.part.unlink()
            raise InputError(
                f"{weights.file} of {name} came in two parts that do not fit together; it was deleted.",
                "Ask for the model again: this file begins anew.",
            )
        os.replace(weights.part, weights.whole)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bar(came: Callable[[float], None]) -> Any:
    """A progress bar for the library that tells how many bytes came, in place of drawing."""
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    class Bar(tqdm):  # type: ignore[type-arg, misc, unused-ignore]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.of_bytes = options.get("unit") == "B"
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            came((n or 0) if self.of_bytes else 0)

    return Bar
