"""Load a model and its tokenizer: the bundled pocket model, a Hugging Face id, or a folder.

Weights are read from safetensors only and no code from a model's repository is ever run: both are how a downloaded
model could take over a machine.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workbench import chat, hub, quantised
from workbench.allocations import free_on, ran_out
from workbench.errors import InputError
from workbench.memory import count, gigabytes
from workbench.pocket import WEIGHTS
from workbench.settings import POCKET as POCKET

_FALLBACK_LENGTH = 2048
_MEBIBYTE = 2**20
_EAGER_NOTE = (
    "PyTorch's fast attention does not compute that of {}, so it is computed product by product: exactly, more slowly, "
    "and with memory that grows with the square of a text's length, which `plan` does not count."
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model ready for use, frozen and in evaluation mode.

    Attributes:
        name: `pocket`, a hub id, or a folder's whole path (`full_name`).
        revision: the commit of a hub model, None otherwise.
        precision: `fp32`, `bf16`, `fp16`, `8-bit`, `4-bit`, or the method by which its files came quantised.
        notes: what a person should know about the model as it was loaded, in sentences.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str | None
    precision: str = "fp32"
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def longest(self) -> int:
        """The longest sequence that the model reads, in tokens.

        With `dynamic` and `longrope` (Phi-4-mini) what is beyond the length that a model was first made for changes how
        all before it is read. A cache holds that as it was, so that an answer would be sampled from one model and
        taught to another: such a model is taken up to that length.
        """
        config = self.model.config.get_text_config()
        longest = int(getattr(config, "max_position_embeddings", None) or _FALLBACK_LENGTH)
        rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
        for part in (rope, *(p for p in rope.values() if isinstance(p, dict))):  # one of each kind of layer, in some
            if part.get("rope_type") == "longrope":
                longest = min(longest, int(part.get("original_max_position_embeddings") or longest))
        return longest

    @property
    def end(self) -> frozenset[int]:
        """The tokens that end an answer: the model's own, the tokenizer's, and the one that ends a turn."""
        ends = getattr(self.model.generation_config, "eos_token_id", None)
        ids = ends if isinstance(ends, list) else [ends]
        own = (self.tokenizer.eos_token_id, chat.turn_end(self.tokenizer))
        return frozenset(int(i) for i in (*ids, *own) if i is not None)

    @property
    def pad(self) -> int:
        """The token that fills rows up; it is masked everywhere."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    @property
    def is_pocket(self) -> bool:
        """Whether this is the bundled model, for which the defaults differ."""
        return self.name == POCKET


class LoadingNote(UserWarning):
    """Something that a person should know about a model that was loaded; also in `LoadedModel.notes`."""


def load(
    name: str = POCKET,
    *,
    revision: str | None = None,
    precision: str = "auto",
    report: hub.Report = lambda done, total: None,
    should_stop: Callable[[], bool] = bool,
    begins: Callable[[str], None] = lambda file: None,
) -> LoadedModel:
    """Load a model, frozen, in evaluation mode, on the GPU where there is one.

    Args:
        name: `pocket`, a Hugging Face id such as `Qwen/Qwen3-4B-Instruct-2507`, or a folder with config.json,
            *.safetensors and a tokenizer.
        revision: a branch, tag or commit of a hub model; the commit found is kept in the run.
        precision: `fp32`, `bf16`, `fp16`, `8-bit`, `4-bit` (NF4), or `auto`: what the files hold where they came
            quantised, else fp32 on a CPU, bf16 on a GPU, fp16 on a GPU without bf16.
        report: told how many bytes of a hub model are on this disk, and of how many, as they come in.
        should_stop: asked meanwhile.
        begins: told which of its files comes in, where that is known.

    Raises:
        InputError: the folder holds no model, the weights are pickled or not all there, the id is unknown or cannot
            be downloaded, there is too little disk or memory, the download was stopped, a package is missing, or a
            revision is asked for of what has none.
    """
    source, here_only = _source(name), False
    fetched: str | None = None
    here = source != name or Path(source).is_dir()
    if here and revision:
        what = "bundled" if name == POCKET else "a folder on this disk"
        raise InputError(
            f"{name} is {what}, so it has no revision {revision!r}.",
            "Leave the revision out, or name a Hugging Face id.",
        )
    from transformers import AutoConfig, AutoTokenizer

    if not here:
        here_only = True
        if hub.config(name, revision) is not None:
            # From here on it is a folder on this disk.
            source, fetched = hub.fetch(name, revision, report, should_stop, begins)
            revision = None
        elif (held := hub.held_config(name, revision)) is not None:
            fetched = held.parent.name
    # By its number: in a run of several processes each has a card of its own.
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
    where: dict[str, Any] = {"revision": revision, "trust_remote_code": False, "local_files_only": here_only}
    with _readable_errors(name, here_only, free_on(device)), quiet():
        config = AutoConfig.from_pretrained(source, **where)
        chosen = quantised.choose(precision, _stored(config), device)
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
        if not {*tokenizer.get_vocab()} - {*tokenizer.all_special_tokens}:
            # Of a missing file some classes make a tokenizer without words, and the model would read nothing.
            raise InputError(
                f"{name} has no tokenizer.",
                "Copy tokenizer.json and tokenizer_config.json beside the weights, from the model it was made of.",
            )
        # Quantised weights are put on their device as they are read, so that they never lie there whole.
        placed: dict[str, Any] = {}
        if chosen.name not in quantised.PLAIN:
            placed["device_map"] = {"": str(device)}
        if chosen.quantise:
            placed["quantization_config"] = chosen.config()
        model = _whole(name, source, **where, **placed, dtype=chosen.compute)
        if not placed:
            model.to(device)
    model.requires_grad_(False)
    model.eval()
    quantised.guard(model, chosen.compute)
    notes = _notes(chosen, device, tokenizer, model)
    for note in notes:
        warnings.warn(note, LoadingNote, stacklevel=2)
    commit = fetched or getattr(model.config, "_commit_hash", None)
    return LoadedModel(model, tokenizer, full_name(name), commit, chosen.name, notes)


def _whole(name: str, source: str, **how: Any) -> Any:
    """The model, each of its weights from the files: of what they lack transformers makes up random ones.

    Its attention is PyTorch's own (SDPA) where that computes it. A bound on attention's scores (Gemma 2) or a token to
    look away at (GPT-OSS) it does not know; there transformers' plain products do, which are slower.
    """
    from transformers import AutoModelForCausalLM

    how |= {
        "use_safetensors": True,
        "ignore_mismatched_sizes": True,  # they are refused below, by name
        "output_loading_info": True,
    }
    try:
        model, said = AutoModelForCausalLM.from_pretrained(source, **how, attn_implementation="sdpa")
    except ValueError as error:  # raised before any weights are read
        if "scaled_dot_product_attention" not in str(error):
            raise
        model, said = AutoModelForCausalLM.from_pretrained(source, **how, attn_implementation="eager")
        if getattr(model, "_is_stateful", False):
            raise InputError(
                f"{name} is a {model.config.model_type} model, which reads by a running state in place of attention; "
                "it can be neither sampled from nor taught here.",
                "Choose a model with attention.",
            ) from error
    if said["missing_keys"]:
        raise InputError(
            f"The files of {name} lack {_listed(said['missing_keys'])}, so it would answer with random weights there.",
            "Download it again with all of its files, or save it again with all of its weights.",
        )
    if said["mismatched_keys"]:
        other = [f"{key} ({[*found]}, not {[*asked]})" for key, found, asked in said["mismatched_keys"]]
        raise InputError(
            f"The files of {name} hold weights of other shapes than its config.json says: {_listed(other)}.",
            "Take config.json and the weights from the same version of the model.",
        )
    return model


def _listed(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many there are besides."""
    found = sorted(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def _stored(config: Any) -> dict[str, Any] | None:
    """config.json's `quantization_config`, of a checkpoint that came quantised."""
    found = getattr(config, "quantization_config", None)
    return found if found is None or isinstance(found, dict) else dict(found.to_dict())


def _notes(chosen: quantised.Precision, device: torch.device, tokenizer: Any, model: Any) -> tuple[str, ...]:
    slow = device.type == "cpu" and chosen.name in quantised.QUANTISED
    blocks, total = (quantised.in_blocks(model) if chosen.name in quantised.QUANTISED else 0), parameters(model)
    eager = getattr(model.config.get_text_config(), "_attn_implementation", None) == "eager"
    notes = (
        quantised.CPU_NOTE.format(chosen.name) if slow else None,
        _blocks_note(blocks, total, chosen.compute) if 10 * blocks > total else None,
        _EAGER_NOTE.format(model.config.model_type) if eager else None,
        chat.thinking(tokenizer).note,
    )
    return tuple(note for note in notes if note)


def _blocks_note(blocks: int, total: int, held: torch.dtype) -> str:
    size = held.itemsize
    return quantised.BLOCKS_NOTE.format(count(blocks), count(total), 8 * size, gigabytes(size * blocks))


def full_name(name: str) -> str:
    """A name that means the same model from any working directory: a folder's is its whole path."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name != POCKET and path.is_dir() else name


def weights_mark(name: str) -> str | None:
    """A short mark of the weights behind a name, to notice later that they were changed; None for a hub model.

    A hub model is pinned by its commit. Of a folder and of the bundled model the size, the beginning and the end of
    each weight file are hashed: all of them would take long, and training changes every part.
    """
    source = Path(_source(name))
    if not source.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(source.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_MEBIBYTE))
            file.seek(max(0, size - _MEBIBYTE))
            digest.update(file.read(_MEBIBYTE))
    return digest.hexdigest()[:16]


def _source(name: str) -> str:
    """Where the files are; a folder is looked at before anything is loaded from it."""
    if name == POCKET:
        return str(WEIGHTS)
    path = Path(name).expanduser()
    if path.is_dir():
        _check_folder(path)
        return str(path)
    if path.exists():
        raise InputError(f"{name} is a file, not a model folder.", "Name the folder that holds config.json.")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(
            f"There is no folder {name}.",
            "Name `pocket`, a Hugging Face id such as Qwen/Qwen3-4B-Instruct-2507, or a folder that exists.",
        )
    return name


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        adapter = " It holds an adapter, not a model." if (path / "adapter_config.json").is_file() else ""
        raise InputError(
            f"{path} has no config.json.{adapter}",
            "Name a model's folder; for an adapter of an earlier run use --on RUN.",
        )
    try:
        json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path / 'config.json'} is not JSON: {error}.", "Download the model again.") from error
    if any(path.glob("*.safetensors")):
        return
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        raise InputError(
            f"{path} has its weights in {pickles[0]}, a pickle, which can run any code when it is opened.",
            "Convert them once to safetensors, on a machine you can lose: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder).",
        )
    raise InputError(f"{path} has no *.safetensors weights.", "Download the model again.")


@contextmanager
def _readable_errors(name: str, here_only: bool, free: float | None) -> Iterator[None]:
    """Turn what transformers, safetensors and the hub raise into a sentence and a next step.

    Args:
        free: bytes of the card before anything was read; None without one.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken model makes its readers raise anything
        if ran_out(error):
            had = "" if free is None else f": the GPU had {gigabytes(free)} free"
            raise InputError(
                f"There is not enough memory to load {name}{had}.",
                "Load it in fewer bits (--precision 4-bit takes least), close what else takes memory, or choose a "
                f"smaller model; `workbench plan {name}` says what it takes.",
            ) from error
        if here_only and isinstance(error, OSError):
            raise InputError(
                f"The model {name} could not be loaded: it is not on this disk, and huggingface.co was not reached.",
                "Check the name and the network; with no network use --model pocket or a folder on this disk.",
            ) from error
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"The model {name} could not be loaded: {first.rstrip('.')}.",
            "Download it again. Only safetensors weights of architectures that transformers knows are read.",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Progress bars and deprecation notes of transformers, on loading and saving, are not for our users."""
    from transformers.utils import logging

    level, drawn = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if drawn:  # not where this is called inside itself
            logging.enable_progress_bar()


def parameters(model: nn.Module) -> int:
    """How many weights a model has; tied ones count once."""
    return sum({p.data_ptr(): quantised.numbers(p) for p in model.parameters()}.values())
