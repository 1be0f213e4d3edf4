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
from workbench.decoding.packed import flat, inner_model
from workbench.execution import answers_in_a_row
from workbench.roles import Roles
from workbench.sampling import Completions


def completion_logits(roles: Roles, completions: Completions) -> Tensor:
    """Logits [B, T, V] of each completion token, differentiable in the student's adapter."""
    return completion_predictions(roles, completions).logits()


def completion_predictions(roles: Roles, completions: Completions, checkpointing: bool = False) -> Predictions:
    """What the student says [B, T, ...] at each completion token, differentiable in its adapter.

    Nothing but the T positions before each completion token comes near the head. Where the student's weights are
    packed, the pass goes over those, and does not repeat what sampling computed; those models are small, and are
    never checkpointed. A prompt is read once for all of its answers.
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
            return Predictions(hidden_without_cache(roles.student, completions), roles.head)
    return Predictions(model_hidden(roles.student, completions), roles.head)


def model_logits(student: Any, completions: Completions) -> Tensor:
    """The same through the PEFT model's own forward: for quantised weights and other architectures."""
    steps = completions.ids.shape[1]
    decoder = ModelDecoder(student)
    if _shares(decoder, completions):
        cache = _prompts_read(decoder, completions)
        return decoder.run(*_after_prompts(completions), cache, keep=steps)
    logits: Tensor = student(**_read(completions), logits_to_keep=steps).logits
    return logits


def model_hidden(student: Any, completions: Completions) -> Tensor:
    """The same before the head: hidden states [B, T, D]."""
    steps = completions.ids.shape[1]
    decoder = ModelDecoder(student)
    if _shares(decoder, completions):
        cache = _prompts_read(decoder, completions)
        return decoder.run_hidden(*_after_prompts(completions), cache, keep=steps)
    hidden: Tensor = inner_model(student).base_model(**_read(completions)).last_hidden_state
    return hidden[:, -steps:]


def hidden_without_cache(student: Any, completions: Completions) -> Tensor:
    """The same where a layer may keep nothing but its input, as under checkpointing.

    Answers to one prompt then lie behind it in one row, each at the positions that follow the prompt, and see the
    prompt and themselves. That makes the mask of a row a square, so only some lie in one.
    """
    inner, steps = inner_model(student), completions.ids.shape[1]
    size = answers_in_a_row(completions.rollouts, steps) if flat(inner) else 1
    if size == 1 or steps == 1:
        return model_hidden(student, replace(completions, rollouts=1))
    rows, prompt = completions.prompt_ids[::size], completions.prompt_mask[::size].bool()
    answers, real = completions.ids[:, :-1].reshape(len(rows), -1), completions.mask[:, :-1].bool()
    at = prompt.sum(1, keepdim=True) + torch.arange(steps - 1, device=rows.device)  # [N, T - 1]
    # Of the prompt's tokens 0, of each answer's its number: a token sees those of the prompt and of its own answer.
    part = torch.arange(1, size + 1, device=rows.device).repeat_interleave(steps - 1)
    part = torch.cat([part.new_zeros(rows.shape[1]), part])
    sees = ((part[None] == 0) | (part[None] == part[:, None])).tril()
    seen = sees & torch.cat([prompt, real.reshape(len(rows), -1)], 1)[:, None]
    seen |= torch.eye(len(part), dtype=torch.bool, device=rows.device)  # no row of a softmax is empty
    dtype = inner.get_input_embeddings().weight.dtype
    bias = torch.zeros(seen.shape, dtype=dtype, device=rows.device).masked_fill_(~seen, torch.finfo(dtype).min)
    hidden = inner.base_model(
        input_ids=torch.cat([rows, answers], 1),
        attention_mask=bias[:, None],
        position_ids=torch.cat([(prompt.cumsum(1) - 1).clamp(min=0), at.repeat(1, size)], 1),
        use_cache=False,
    ).last_hidden_state
    width = rows.shape[1]
    first = hidden[:, None, width - 1 : width].expand(-1, size, -1, -1)
    return torch.cat([first, hidden[:, width:].view(len(rows), size, steps - 1, -1)], 2).flatten(0, 1)


def _shares(decoder: ModelDecoder, completions: Completions) -> bool:
    """Whether several answers lie behind one prompt that is more than the token they begin after, and can go on."""
    return completions.rollouts > 1 and completions.prompt_ids.shape[1] > 1 and not decoder.recurrent


def _prompts_read(decoder: ModelDecoder, completions: Completions) -> Any:
    """A cache of each answer's prompt without its last token; a prompt is read once for all of its answers."""
    asked = slice(None, None, completions.rollouts)
    ids, mask = completions.prompt_ids[asked, :-1], completions.prompt_mask[asked, :-1]
    cache = decoder.allocate(len(ids), ids.shape[1])
    decoder.run_hidden(ids, mask, cache)
    each = torch.arange(len(ids), device=ids.device).repeat_interleave(completions.rollouts)
    return cache.rows(each)


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
