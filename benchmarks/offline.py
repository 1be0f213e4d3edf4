"""What SDFT is without its on-policy samples: the teacher's own answers, drawn once, and the student made to follow.

Two ways to follow them, as in the paper's ablation: `distil` makes the per-token divergence from the teacher small on
the teacher's answers; `imitate` makes the answers themselves likely. Teacher, rows, batches, adapter, optimizer and
averaging are those of `workbench.sdft`; only whose answers are read differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from workbench import (
    Choice,
    Completions,
    Demonstration,
    Roles,
    Scorer,
    Settings,
    TrainingState,
    sample,
    sequence_mean,
    skip_first,
)
from workbench.prompts import PromptTokens
from workbench.sampling import pad_left, pad_right
from workbench.training.batches import make_plan
from workbench.training.comparing import compare, say
from workbench.training.student import completion_predictions


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
        device=roles.loaded.device,
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
    pad, device = roles.loaded.pad, roles.loaded.device
    frozen = [row.teacher for row in plan.teaching]
    teacher = Scorer(roles.base_decoder, pad=pad, head=roles.head, frozen_prompts=frozen)
    said = teacher_answers(roles, plan.teaching, settings)
    state = TrainingState.begin(roles, settings)
    while state.step < settings.optim.steps:
        rows = plan.batch(state.step)
        prompt_ids, prompt_mask = pad_left([row.student for row in rows], pad, device)
        ids, mask = pad_right([said[row.teacher] for row in rows], pad, device)
        answers = Completions(prompt_ids, prompt_mask, ids, mask)
        student = completion_predictions(roles, answers)
        if follow == "distil":
            found = compare(student, teacher.predict([row.teacher for row in rows], answers), mask, settings)
        else:
            found = say(student, ids, mask)
        loss = sequence_mean(found.per_token, skip_first(mask, settings.divergence.skip_tokens))
        state.accumulate(loss)
        state.update(float(loss.detach()))
        yield state.step
