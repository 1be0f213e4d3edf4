"""The student's training pass: predictions with gradients, at the completion's positions only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from workbench.decoding import Head, ModelDecoder, PackedDecoder, Predictions, training_hidden
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
    never checkpointed. A prompt is read once for all of its answers, unless activations are checkpointed: transformers
    keeps no cache then.
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
    if checkpointing:
        with checkpointed(roles.student):
            return Predictions(model_hidden(roles.student, replace(completions, rollouts=1)), roles.head)
    return Predictions(model_hidden(roles.student, completions), roles.head)


def model_logits(student: Any, completions: Completions) -> Tensor:
    """The same through the PEFT model's own forward: for quantised weights and other architectures."""
    steps = completions.ids.shape[1]
    if _shares(completions):
        decoder, cache = _prompts_read(student, completions)
        return decoder.run(*_after_prompts(completions), cache, keep=steps)
    logits: Tensor = student(**_read(completions), logits_to_keep=steps).logits
    return logits


def model_hidden(student: Any, completions: Completions) -> Tensor:
    """The same before the head: hidden states [B, T, D]."""
    steps = completions.ids.shape[1]
    if _shares(completions):
        decoder, cache = _prompts_read(student, completions)
        return decoder.run_hidden(*_after_prompts(completions), cache, keep=steps)
    hidden: Tensor = inner_model(student).base_model(**_read(completions)).last_hidden_state
    return hidden[:, -steps:]


def _shares(completions: Completions) -> bool:
    """Whether several answers lie behind one prompt, and the prompt is more than the token they begin after."""
    return completions.rollouts > 1 and completions.prompt_ids.shape[1] > 1


def _prompts_read(student: Any, completions: Completions) -> tuple[ModelDecoder, Any]:
    """A cache of each answer's prompt without its last token; a prompt is read once for all of its answers."""
    asked = slice(None, None, completions.rollouts)
    ids, mask = completions.prompt_ids[asked, :-1], completions.prompt_mask[asked, :-1]
    decoder = ModelDecoder(student)
    cache = decoder.allocate(len(ids), ids.shape[1])
    decoder.run_hidden(ids, mask, cache)
    each = torch.arange(len(ids), device=ids.device).repeat_interleave(completions.rollouts)
    return decoder, cache.rows(each)


def _after_prompts(completions: Completions) -> tuple[Tensor, Tensor]:
    """Ids and mask [B, T] of each prompt's last token and of the answer without its last, which predicts nothing."""
    ids = torch.cat([completions.prompt_ids[:, -1:], completions.ids[:, :-1]], 1)
    return ids, torch.cat([completions.prompt_mask[:, -1:], completions.mask[:, :-1]], 1)


def _read(completions: Completions) -> dict[str, Any]:
    # The last token predicts nothing that is scored, so it is not read.
    ids = torch.cat([completions.prompt_ids, completions.ids[:, :-1]], 1)
    mask = torch.cat([completions.prompt_mask, completions.mask[:, :-1]], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}


@contextmanager
def checkpointed(student: Any) -> Iterator[None]:
    """Let each layer keep its input alone while the pass inside is taken, and compute the rest again backwards.

    transformers checkpoints a layer that is in training mode; what is inside it (dropout, quantised products) stays
    in evaluation mode, and so does the layer before and after.
    """
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
