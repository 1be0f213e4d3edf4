"""The student's training pass: logits with gradients, at the completion's positions only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.decoding import PackedDecoder, training_logits
from workbench.roles import Roles
from workbench.sampling import Completions


def completion_logits(roles: Roles, completions: Completions) -> Tensor:
    """Logits [B, T, V] of each completion token, differentiable in the student's adapter.

    The head is applied to the T positions before each completion token, not to the prompt. Where the student's
    weights are packed, the pass goes over those, and does not repeat what sampling computed.
    """
    decoder = roles.student_decoder
    if isinstance(decoder, PackedDecoder):
        asked = slice(None, None, completions.rollouts)
        return training_logits(
            decoder,
            completions.prompt_ids[asked],
            completions.prompt_mask[asked],
            completions.ids,
            completions.tape,
        )
    return model_logits(roles.student, completions)


def model_logits(student: Any, completions: Completions) -> Tensor:
    """The same through the PEFT model's own forward: for quantised weights and other architectures."""
    # The last token predicts nothing that is scored, so it is not read.
    ids = torch.cat([completions.prompt_ids, completions.ids[:, :-1]], 1)
    mask = torch.cat([completions.prompt_mask, completions.mask[:, :-1]], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits: Tensor = student(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        logits_to_keep=completions.ids.shape[1],
        use_cache=False,
    ).logits
    return logits
