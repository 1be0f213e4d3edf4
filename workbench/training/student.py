"""The student's training pass: predictions with gradients, at the completion's positions only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from workbench.decoding import Head, PackedDecoder, Predictions, training_hidden
from workbench.decoding.packed import inner_model
from workbench.roles import Roles
from workbench.sampling import Completions


def completion_logits(roles: Roles, completions: Completions) -> Tensor:
    """Logits [B, T, V] of each completion token, differentiable in the student's adapter."""
    return completion_predictions(roles, completions).logits()


def completion_predictions(roles: Roles, completions: Completions, checkpointing: bool = False) -> Predictions:
    """What the student says [B, T, ...] at each completion token, differentiable in its adapter.

    Nothing but the T positions before each completion token comes near the head. Where the student's weights are
    packed, the pass goes over those, and does not repeat what sampling computed; those models are small, and are
    never checkpointed.
    """
    decoder = roles.student_decoder
    if isinstance(decoder, PackedDecoder):
        asked = slice(None, None, completions.rollouts)
        hidden = training_hidden(
            decoder,
            completions.prompt_ids[asked],
            completions.prompt_mask[asked],
            completions.ids,
            completions.tape,
        )
        return Predictions(hidden, Head(decoder.head))
    if roles.head is None:
        return Predictions(model_logits(roles.student, completions), None)
    with checkpointed(roles.student, checkpointing):
        return Predictions(model_hidden(roles.student, completions), roles.head)


def model_logits(student: Any, completions: Completions) -> Tensor:
    """The same through the PEFT model's own forward: for quantised weights and other architectures."""
    logits: Tensor = student(**_read(completions), logits_to_keep=completions.ids.shape[1]).logits
    return logits


def model_hidden(student: Any, completions: Completions) -> Tensor:
    """The same before the head: hidden states [B, T, D]."""
    hidden: Tensor = inner_model(student).base_model(**_read(completions)).last_hidden_state
    return hidden[:, -completions.ids.shape[1] :]


def _read(completions: Completions) -> dict[str, Any]:
    # The last token predicts nothing that is scored, so it is not read.
    ids = torch.cat([completions.prompt_ids, completions.ids[:, :-1]], 1)
    mask = torch.cat([completions.prompt_mask, completions.mask[:, :-1]], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}


@contextmanager
def checkpointed(student: Any, wanted: bool = True) -> Iterator[None]:
    """Let each layer keep its input alone while the pass inside is taken, and compute the rest again backwards.

    transformers checkpoints a layer that is in training mode; what is inside it (dropout, quantised products) stays
    in evaluation mode, and so does the layer before and after.
    """
    if not wanted:
        yield
        return
    inner = inner_model(student)
    # Called gradient checkpointing until transformers 5.3x.
    enable = getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
    disable = getattr(inner, "activation_checkpointing_disable", None) or inner.gradient_checkpointing_disable
    enable({"use_reentrant": False})
    layers = [m for m in inner.modules() if isinstance(m, GradientCheckpointingLayer)]
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer in layers:
            layer.training = False
        disable()
