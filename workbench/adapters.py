"""Adapters as files, in PEFT's format: written so that `PeftModel.from_pretrained` loads them, read with care.

A run that goes on from an earlier one trains a fresh adapter on the earlier result. What it writes is both in one:
the factors laid side by side, A = [A1; A2] and B = [s1 B1, s2 B2], so that one adapter on the original model gives
exactly what the run taught.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench import quantised
from workbench.errors import InputError
from workbench.models import LoadedModel, quiet, weights_mark
from workbench.roles import Roles

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_MAX_RANK = 1024


def save_adapter(roles: Roles, folder: Path, before: Path | None = None) -> None:
    """Write the student's adapter to `folder`, whole or not at all, together with the one it goes on from."""
    making = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    # Only the adapter: PEFT would look the base up on the hub to see whether its vocabulary was changed.
    roles.student.save_pretrained(str(making), safe_serialization=True, save_embedding_layers=False)
    (making / "README.md").unlink(missing_ok=True)
    if before is not None:
        _join(before, making)
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(making, folder)


def _join(first: Path, second: Path) -> None:
    """Put the adapter in `first` into the one in `second`."""
    one, two = load_file(first / WEIGHTS_FILE), load_file(second / WEIGHTS_FILE)
    configs = [json.loads((f / CONFIG_FILE).read_text()) for f in (first, second)]
    scales = [c["lora_alpha"] / c["r"] for c in configs]
    rank = configs[0]["r"] + configs[1]["r"]
    joined: dict[str, Tensor] = {}
    for name in sorted({*one, *two}):
        if ".lora_A." in name:
            joined[name] = torch.cat(
                [
                    _or_zeros(t, name, other, c["r"], 0)
                    for t, other, c in zip((one, two), (two, one), configs, strict=True)
                ]
            )
        else:
            joined[name] = torch.cat(
                [
                    s * _or_zeros(t, name, other, c["r"], 1)
                    for s, t, other, c in zip(scales, (one, two), (two, one), configs, strict=True)
                ],
                1,
            )
    config = {**configs[1], "r": rank, "lora_alpha": rank}
    if configs[0]["target_modules"] != configs[1]["target_modules"]:
        both = {*_names(configs[0]), *_names(configs[1])}
        config["target_modules"] = sorted(both)
    save_file({k: v.contiguous() for k, v in joined.items()}, second / WEIGHTS_FILE, {"format": "pt"})
    (second / CONFIG_FILE).write_text(json.dumps(config, indent=2))


def _or_zeros(tensors: dict[str, Tensor], name: str, other: dict[str, Tensor], rank: int, side: int) -> Tensor:
    """The factor of that name; zeros of its rank where this adapter leaves the layer alone."""
    if name in tensors:
        return tensors[name]
    shape = list(other[name].shape)
    shape[side] = rank
    return torch.zeros(shape, dtype=other[name].dtype)


def _names(config: dict[str, Any]) -> list[str]:
    targets = config["target_modules"]
    return [targets] if isinstance(targets, str) else list(targets)


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the factors of a plain LoRA adapter, whatever model it is for.

    Raises:
        InputError: a file is missing, pickled or damaged, or the adapter is of another kind.
    """
    config_path, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    if not config_path.is_file():
        raise InputError(f"{folder} has no {CONFIG_FILE}.", "Name a PEFT adapter's folder or a run.")
    if not weights.is_file():
        pickled = " (adapter_model.bin is a pickle and is not read)" if (folder / "adapter_model.bin").exists() else ""
        raise InputError(f"{folder} has no {WEIGHTS_FILE}{pickled}.", "Save the adapter again with safetensors.")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        tensors = load_file(weights)
    except (ValueError, OSError, SafetensorError) as error:
        raise InputError(f"The adapter in {folder} cannot be read: {error}.", "Copy or download it again.") from error
    if config.get("peft_type") != "LORA" or config.get("modules_to_save") or config.get("use_dora"):
        raise InputError(f"{folder} is not a plain LoRA adapter.", "Only LoRA adapters without extra modules are read.")
    return config, tensors


def check_adapter(folder: Path, loaded: LoadedModel) -> None:
    """Refuse an adapter folder that is not a plain LoRA adapter of this model.

    Raises:
        InputError: it cannot be read (see `read_adapter`), it is for another base, or its shapes do not fit.
    """
    config, tensors = read_adapter(folder)
    _check_base(folder, config, loaded)
    if not 1 <= int(config.get("r", 0)) <= _MAX_RANK:
        raise InputError(f"The adapter in {folder} has rank {config.get('r')}.", f"Ranks 1 to {_MAX_RANK} are read.")
    shapes = {f"base_model.model.{name}": p.shape for name, p in loaded.model.named_parameters()}
    for name, held in quantised.layers(loaded.model):
        shapes[f"base_model.model.{name}.weight"] = torch.Size((held.out_features, held.in_features))
    for name, tensor in tensors.items():
        layer, _, factor = name.rpartition(".lora_")
        shape = shapes.get(f"{layer}.weight")
        side = 1 if factor.startswith("A") else 0
        if shape is None or shape[1 if side else 0] != tensor.shape[side]:
            raise InputError(
                f"The adapter in {folder} is for another model: it was made on "
                f"{config.get('base_model_name_or_path')!r}, and {name} does not fit {loaded.name}.",
                "Load it on the model it was made on.",
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"The adapter in {folder} holds numbers that are not finite.", "Use another checkpoint.")


def _check_base(folder: Path, config: dict[str, Any], loaded: LoadedModel) -> None:
    """Refuse an adapter of another base: one of the same shapes would fit, and answer nonsense."""
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if base == loaded.name:
        if revision is None or loaded.revision is None or revision == loaded.revision:
            return
        base = f"{base} at revision {revision}"
    elif not base or Path(base).name.lower() == Path(loaded.name).name.lower():
        return  # it does not say, or the same model lies elsewhere here
    elif Path(base).is_dir() and weights_mark(base) == weights_mark(loaded.name) is not None:
        return
    raise InputError(
        f"The adapter in {folder} was made on {base}; {loaded.name} is another model.",
        "Load the model it was made on. If this is that model under another name, put this name into "
        f"base_model_name_or_path in {CONFIG_FILE}.",
    )


def merge_adapter(loaded: LoadedModel, folder: Path) -> LoadedModel:
    """The model with this adapter added into its weights, frozen. `loaded` is used up.

    Weights in 4 or 8 bits are left as they are, and the adapter lies beside them: adding it in would round it away.

    Raises:
        InputError: the adapter does not fit (see `check_adapter`).
    """
    check_adapter(folder, loaded)
    if quantised.is_quantised(loaded.model):
        _lay_beside(loaded.model, folder)
        return loaded
    with quiet():
        merged: Any = PeftModel.from_pretrained(loaded.model, str(folder)).merge_and_unload()
    merged.requires_grad_(False)
    merged.eval()
    return replace(loaded, model=merged)


def _lay_beside(model: Any, folder: Path) -> None:
    config, tensors = read_adapter(folder)
    ends = ("base_model.model.", ".lora_A.weight", ".lora_B.weight")
    names = [name.removeprefix(ends[0]).removesuffix(ends[1]) for name in tensors if name.endswith(ends[1])]
    factors = {name: (tensors[ends[0] + name + ends[1]], tensors[ends[0] + name + ends[2]]) for name in names}
    root = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
    quantised.lay_beside(model, factors, config["lora_alpha"] / root)
