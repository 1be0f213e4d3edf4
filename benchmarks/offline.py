"""What SDFT is without its on-policy samples: the teacher's own answers, drawn once, and the student made to follow.

Two ways to follow them, as in the paper's ablation: `distil` makes the per-token divergence from the teacher small on
the teacher's answers; `imitate` makes the answers themselves likely. Teacher, rows, batches, adapter, optimizer and
averaging are those of `workbench.sdft`; only whose answers are read differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch.nn.functional as F

from workbench import (
    Choice,
    Completions,
    Demonstration,
    Roles,
    Scorer,
    Settings,
    TrainingState,
    completion_logits,
    sample,
    sequence_mean,
    skip_first,
)
from workbench.decoding.head import Predictions
from workbench.prompts import PromptTokens
from workbench.sampling import pad_left, pad_right
from workbench.training.batches import make_plan
from workbench.training.comparing import compare


def teacher_answers(roles: Roles, rows: Sequence[PromptTokens], settings: Settings) -> dict[tuple[int, ...], list[int]]:
    """What the teacher answers to each of its prompts, sampled once at the run's temperature."""
    chosen = settings.rollout
    answers = sample(
        roles.base_decoder,
        [row.teacher for row in rows],
        end=roles.loaded.end,
        pad=roles.loaded.pad,
        longest=chosen.max_new_tokens,
        seed=settings.optim.seed,
        choice=Choice(chosen.temperature, chosen.top_p, chosen.top_k),
    )
    return {row.teacher: ids for row, ids in zip(rows, answers.lists(), strict=True)}


def offline(
    roles: Roles,
    demonstrations: Sequence[Demonstration],
    settings: Settings,
    *,
    follow: Literal["distil", "imitate"] = "distil",
) -> Iterator[int]:
    """Teach `roles.student` from the teacher's samples; yields the number of each step taken."""
    plan = make_plan(roles, demonstrations, (), settings)
    pad = roles.loaded.pad
    teacher = Scorer(roles.base_decoder, pad=pad, frozen_prompts=[row.teacher for row in plan.teaching])
    said = teacher_answers(roles, plan.teaching, settings)
    state = TrainingState.begin(roles, settings)
    while state.step < settings.optim.steps:
        rows = plan.batch(state.step)
        prompt_ids, prompt_mask = pad_left([row.student for row in rows], pad)
        ids, mask = pad_right([said[row.teacher] for row in rows], pad)
        answers = Completions(prompt_ids, prompt_mask, ids, mask)
        student = completion_logits(roles, answers)
        if follow == "distil":
            taught = teacher.logits([row.teacher for row in rows], answers)
            per_token = compare(Predictions(student, None), Predictions(taught, None), mask, settings).per_token
        else:
            per_token = F.cross_entropy(student.transpose(1, 2), ids, reduction="none")
        state.update(sequence_mean(per_token, skip_first(mask, settings.divergence.skip_tokens)))
        yield state.step
