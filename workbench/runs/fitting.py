"""How much of a model's work is done at a time on this machine, by arithmetic on the memory that is free now."""

from __future__ import annotations

from dataclasses import replace

import torch

from workbench.allocations import free_on
from workbench.errors import InputError
from workbench.execution import QUESTIONS, Execution
from workbench.memory import BYTES, Shape, computer, read_shape
from workbench.models import LoadedModel
from workbench.planning import LEAST, fit, refusal, together
from workbench.settings import Settings

_DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def planned(loaded: LoadedModel, settings: Settings, origin: bool = False) -> Execution:
    """As many answers at a time as fit into this machine's memory, by arithmetic; all of them where that is unknown.

    Args:
        origin: whether the model as it was before any lesson will lie beside the loaded one, to teach.

    Raises:
        InputError: not even one fits on the GPU. On the computer's own memory, which can be swapped, it is tried.
    """
    try:
        shape, dtype, room, card = _here(loaded, origin)
    except InputError:
        return Execution()
    found = fit(shape, dtype, settings, room)
    if found is not None:
        return found.work
    if card:
        raise refusal(shape, dtype, settings, room)
    return LEAST


def as_asked(work: Execution, loaded: LoadedModel, settings: Settings, origin: bool = False) -> Execution:
    """What a person chose for the steps, with as many questions together where it is measured as fit beside them."""
    return replace(work, questions=min(work.questions, asked_together(loaded, settings, work, origin)))


def asked_together(
    loaded: LoadedModel, settings: Settings, beside: Execution | None = None, origin: bool = False
) -> int:
    """How many questions are answered together in this machine's memory; as many as ever where that is unknown.

    Args:
        beside: of the run in which they are asked; None: nothing is taught meanwhile.
        origin: as of `planned`.
    """
    try:
        shape, dtype, room, _ = _here(loaded, origin)
    except InputError:
        return QUESTIONS
    return together(shape, dtype, settings, room, beside=beside)


def _here(loaded: LoadedModel, origin: bool) -> tuple[Shape, str, float, bool]:
    """The model's shape and precision, the bytes there are for it, and whether these are a card's.

    Raises:
        InputError: its config does not say its shape.
    """
    shape = read_shape(loaded.model.config.to_dict())
    # The model is in memory already: what it takes there is not free any more, and is counted again in the estimate.
    here = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
    known = loaded.precision in BYTES
    dtype = loaded.precision if known else _DTYPES.get(loaded.model.dtype, "fp32")
    # Where the model is: the first card that the driver names may be another one, or one that PyTorch cannot use.
    free = free_on(loaded.device)
    room = (computer().free if free is None else free) + (0 if origin else here)
    return shape, dtype, room, free is not None
