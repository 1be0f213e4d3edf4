"""Base, teacher and student: three views of one model.

The base is the loaded model. The student is the same model with a LoRA adapter. The teacher is the base (frozen), or
the model with an adapter that follows the student's slowly (EMA), or the student itself (live). Each view is a tree of
modules of its own over the *same* base weights, so nothing is ever switched on or off: asking the base a question
while the student trains cannot disturb the student.
"""

from __future__ import annotations

import copy
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from workbench import quantised
from workbench.decoding import Decoder, Head, decoder_for, head_of
from workbench.decoding.packed import inner_model
from workbench.errors import InputError
from workbench.models import LoadedModel
from workbench.settings import LoraSettings

_SENSES = r".*(vision|audio|image|multi_modal|multimodal|mm_|projector).*"
"""Layers that read pictures or sound: text does not go through them, so an adapter there would never learn."""

TeacherKind = Literal["base", "original", "ema", "live"]


@dataclass
class Roles:
    """The three views of one model, and the adapter that is being taught.

    Attributes:
        loaded: the base model with its tokenizer.
        student: a PEFT model over the base's weights, always in evaluation mode (the adapter has no dropout).
        lora: how the adapter was made.
        origin: the model as it was before any lesson, where `loaded` has an earlier run's adapter in its weights. It
            teaches better than a model that has learned something else meanwhile: lessons wear down how well a model
            follows a demonstration (docs/method.md).
    """

    loaded: LoadedModel
    student: PeftModel
    lora: LoraSettings
    origin: LoadedModel | None = None

    def __post_init__(self) -> None:
        self.base_decoder: Decoder = decoder_for(self.loaded.model)
        self.student_decoder: Decoder = decoder_for(self.student)
        self._origin_decoder = self.base_decoder if self.origin is None else decoder_for(self.origin.model)
        self._ema: PeftModel | None = None
        self._ema_decoder: Decoder | None = None

    @cached_property
    def head(self) -> Head | None:
        """The head that all three share, where it can stand by itself."""
        return head_of(self.student)

    def teacher_head(self, kind: TeacherKind) -> Head | None:
        """The head of the weights that the teacher scores with; `head` itself where they are equal."""
        if self.origin is None or kind != "original":
            return self.head
        own = head_of(self.origin.model)
        return self.head if own is not None and self.head is not None and own.same(self.head) else own

    @property
    def adapter(self) -> dict[str, nn.Parameter]:
        """The student's trainable weights by name, in a fixed order."""
        return {n: p for n, p in self.student.named_parameters() if p.requires_grad}

    def refresh(self) -> None:
        """Take notice that an adapter's weights were changed from outside."""
        self.student_decoder.refresh()
        if self._ema_decoder is not None:
            self._ema_decoder.refresh()

    def start_ema(self) -> None:
        """Begin the EMA teacher as a copy of the student's present adapter.

        TRL begins it at zero in both factors, so that its product lags the true average quadratically; from a copy
        the teacher starts as the student does and follows it as the paper says.
        """
        self._ema = _view(self.student)
        self._ema.requires_grad_(False)
        self._ema_decoder = decoder_for(self._ema)

    @property
    def ema_adapter(self) -> dict[str, Tensor]:
        """The EMA teacher's adapter weights by name; empty without one."""
        if self._ema is None:
            return {}
        names = self.adapter
        return {n: p.data for n, p in self._ema.named_parameters() if n in names}

    @torch.no_grad()
    def follow(self, rate: float) -> None:
        """teacher <- (1 - rate) teacher + rate student, over the adapter's factors (Algorithm 1)."""
        students = self.adapter
        shadows = self.ema_adapter
        torch._foreach_lerp_(list(shadows.values()), [students[n].data for n in shadows], rate)
        if self._ema_decoder is not None:
            self._ema_decoder.refresh()

    def teacher_decoder(self, kind: TeacherKind) -> Decoder:
        """The weights that the teacher scores with."""
        if kind == "base":
            return self.base_decoder
        if kind == "original":
            return self._origin_decoder
        if kind == "live":
            return self.student_decoder
        if self._ema_decoder is None:
            self.start_ema()
        assert self._ema_decoder is not None
        return self._ema_decoder

    def first_teacher(self, kind: TeacherKind) -> Decoder:
        """The weights that teach in the first step: the averaged and the live ones begin as the base does."""
        return self.teacher_decoder("original" if kind == "original" else "base")


def make_roles(loaded: LoadedModel, lora: LoraSettings, seed: int = 0, origin: LoadedModel | None = None) -> Roles:
    """Put a fresh LoRA adapter (B = 0: the student starts as the base) on a loaded model.

    Args:
        seed: of the adapter's random factor A.
        origin: the model before any lesson (see `Roles`), if it is not `loaded` itself.

    Raises:
        InputError: no layer of the model has a name in `lora.targets`, or one of them is a head or an embedding that
            share their weights.
    """
    tree = _view(loaded.model)
    # PEFT draws from the global generator; the caller's state is put back.
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            # PEFT remarks that it puts the folder's path in place of the name; the name is put back below.
            warnings.simplefilter("ignore")
            student = get_peft_model(tree, _peft_config(lora, loaded))
    except ValueError as error:
        raise InputError(
            f"LoRA could not be put on this model: {str(error).splitlines()[0]}",
            "Name layers that exist with --targets, or leave it at all-linear.",
        ) from error
    finally:
        torch.set_rng_state(state)
    student.peft_config["default"].base_model_name_or_path = loaded.name
    student.eval()
    _refuse_tied(loaded.model, student)
    return Roles(loaded, student, lora, origin)


def _refuse_tied(model: Any, student: PeftModel) -> None:
    """An adapter on one of two layers that share their weights could never be merged: the other would change, too."""
    ends = {"head": model.get_output_embeddings(), "embedding": model.get_input_embeddings()}
    if ends["head"] is None or ends["head"].weight is not ends["embedding"].weight:
        return
    names = {id(layer): name for name, layer in model.named_modules()}
    taught = {name for name, layer in inner_model(student).named_modules() if isinstance(layer, BaseTunerLayer)}
    for what, layer in ends.items():
        if (name := names[id(layer)]) in taught:
            raise InputError(
                f"{name} cannot be taught: this model's head and its embedding are the same weights, so that an "
                f"adapter on its {what} could not be merged, exported or built on.",
                "Leave it out of --targets; all-linear does.",
            )


def _peft_config(lora: LoraSettings, loaded: LoadedModel) -> LoraConfig:
    targets: Any = lora.targets if lora.targets == "all-linear" else _named_layers(lora, loaded)
    # PEFT warns of an exclusion that excludes nothing, and so would everybody who loads the adapter.
    senses = any(re.fullmatch(_SENSES, name) for name, _ in loaded.model.named_modules())
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=targets,
        exclude_modules=_SENSES if targets == "all-linear" and senses else None,
        task_type="CAUSAL_LM",
        base_model_name_or_path=loaded.name,
        revision=loaded.revision,
    )


def _named_layers(lora: LoraSettings, loaded: LoadedModel) -> list[str]:
    """The layers that `--targets` names. PEFT passes over a name that fits none, as long as another one fits."""
    layers = [name for name, layer in loaded.model.named_modules() if isinstance(layer, nn.Linear | nn.Embedding)]
    for target in lora.layers:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            there = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
            raise InputError(f"No layer of this model is called {target!r}.", f"Its layers are {there}.")
    return list(lora.layers)


def _view(model: Any) -> Any:
    """A second tree of modules over the same frozen weights; trainable weights are copied."""
    # Also where the model did not come from `load`: what bitsandbytes does to it on a CPU would spoil the gradient.
    quantised.guard(model)
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    shared |= {id(b): b for b in model.buffers()}
    shared |= quantised.shared_parts(model)
    return copy.deepcopy(model, shared)
