"""Self-distillation fine-tuning: Shenfeld, Damani, Hübotter, Agrawal 2026 (arXiv 2601.19897), Algorithm 1.

    for each step:
        (x, c)   a batch of prompts with their demonstrations
        y        the student answers x, sampled                               on-policy
        teacher  reads x and c, and scores y token by token                   no gradient
        loss     mean over answers of the mean over tokens of D(teacher, student)
        update   AdamW on the adapter; an EMA teacher follows

Deviations from the paper, each a setting: LoRA in place of full fine-tuning; the frozen base as the default teacher
(the paper: EMA of rate 0.01); keep rows, which the paper does not have. With a keep row, c is empty and its teacher is
the model as it was before the run: the same loss, saying "stay as you are".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from workbench.chat import thought_end
from workbench.decoding import Predictions
from workbench.demonstrations import Demonstration
from workbench.divergence import sequence_mean, skip_first, thought_length
from workbench.events import Step
from workbench.execution import Execution
from workbench.prompts import PromptTokens
from workbench.roles import Roles
from workbench.sampling import Completions
from workbench.settings import Settings
from workbench.training.batches import Plan, make_plan
from workbench.training.comparing import Seen, compare, drift
from workbench.training.parts import part_of, rollouts
from workbench.training.recovery import Attempt
from workbench.training.samples import asked
from workbench.training.scorer import Scorer
from workbench.training.state import TrainingState
from workbench.training.steps import finish, take
from workbench.training.student import completion_predictions
from workbench.training.together import crew


def sdft(
    roles: Roles,
    demonstrations: Sequence[Demonstration],
    settings: Settings,
    *,
    keep: Sequence[Demonstration] = (),
    state: TrainingState | None = None,
    should_stop: Callable[[], bool] = bool,
    execution: Execution = Execution(),
) -> Iterator[Step]:
    """Teach `roles.student` by SDFT. Everything is checked now; the steps are taken as the result is iterated.

    Args:
        roles: base, teacher and student of one model; the student's adapter is changed in place.
        demonstrations: the teaching rows.
        keep: questions whose answers should stay as they are; a share of every batch.
        state: where to go on from; begun anew by default. Between two events it is a whole number of steps.
        should_stop: asked between phases and while sampling; the step in progress is then dropped.
        execution: how many answers are worked on at a time; fewer where memory runs out.

    Returns:
        An iterator of one `Step` per optimizer step. It may be closed at any time.

    Raises:
        InputError: a row does not fit the model, or there is nothing to teach.
    """
    plan = make_plan(roles, demonstrations, keep, settings)
    return _steps(roles, plan, state or TrainingState.begin(roles, settings), should_stop, execution)


def _steps(
    roles: Roles, plan: Plan, state: TrainingState, should_stop: Callable[[], bool], work: Execution
) -> Iterator[Step]:
    settings, pad, kind = plan.settings, roles.loaded.pad, plan.settings.teacher.teacher
    of_teacher = [row.teacher for row in plan.teaching] if kind in ("base", "original") else []
    of_base = [row.teacher for row in plan.keep]
    if settings.divergence.anchor:
        of_base += [row.student for row in plan.teaching]
    budget = work.prefix_bytes
    if roles.teacher_decoder(kind) is roles.base_decoder:
        prompts = of_teacher + of_base
        teacher = base = Scorer(roles.base_decoder, pad=pad, head=roles.head, frozen_prompts=prompts, budget=budget)
    else:
        decoder, head = roles.teacher_decoder(kind), roles.teacher_head(kind)
        teacher = Scorer(decoder, pad=pad, head=head, frozen_prompts=of_teacher, budget=budget)
        base = Scorer(roles.base_decoder, pad=pad, head=roles.head, frozen_prompts=of_base, budget=teacher.left)

    def step(now: Attempt) -> Step:
        state.clear()
        rows, each = plan.batch(state.step), settings.rollout.rollouts
        share = crew().share(len(rows))
        answers = rollouts(roles, rows, settings, state.step, now.should_stop, now.work, share)
        rows = [row for row in rows for _ in range(each)]
        mine = rows[share.start * each : share.stop * each]
        now.lap("sample")
        thought = thought_length(answers.ids, thought_end(roles.loaded.tokenizer))
        seen = Seen(skip_first(answers.mask, settings.divergence.skip_tokens, thought))
        shown = asked(rows, answers.mask, share.start * each)
        for part in now.work.passes(len(mine)):
            some, few = mine[part], part_of(answers, part)
            taught = teach(teacher, base, some, few)
            now.lap("teacher")
            now.go_on()
            student = completion_predictions(roles, few, now.work.checkpointing)
            length = few.ids.shape[1]
            found = compare(student, taught, few.mask, settings, shown[part, :length])
            counted = seen.counted[part, :length]
            loss = sequence_mean(found.per_token, counted)
            if settings.divergence.anchor:
                loss = loss + settings.divergence.anchor * anchor(base, student, some, few, counted)
            loss = loss * (len(some) / len(rows))
            seen.add(part, found, float(loss.detach()))
            now.lap("student")
            state.accumulate(loss)
            now.lap("update")
        return finish(state, now, rows, seen, answers, samples=True)

    return take(step, plan, state, should_stop, work, samples=True)


def teach(teacher: Scorer, base: Scorer, rows: Sequence[PromptTokens], answers: Completions) -> Predictions:
    """What the teacher says [B, T, ...] on the answers; for keep rows the base, which reads the question alone."""
    if teacher is base or not any(row.row.keep for row in rows):
        return teacher.predict([row.teacher for row in rows], answers)
    taught = sum(not row.row.keep for row in rows)  # keep rows come last in a batch
    found = [
        scorer.predict([row.teacher for row in rows[part]], _only(answers, part))
        for scorer, part in ((teacher, slice(None, taught)), (base, slice(taught, None)))
        if rows[part]
    ]
    head = found[0].head
    if any(f.head is not head for f in found):  # a teacher before any lesson, and one of those lessons was on the head
        return Predictions(torch.cat([f.logits() for f in found]), None)
    return Predictions(torch.cat([f.values for f in found]), head)


def _only(answers: Completions, part: slice) -> Completions:
    """Some of the answers, as wide as before."""
    return Completions(answers.prompt_ids[part], answers.prompt_mask[part], answers.ids[part], answers.mask[part])


def anchor(
    base: Scorer, student: Predictions, rows: Sequence[PromptTokens], answers: Completions, counted: Tensor
) -> Tensor:
    """KL(base || student) on the same answers, both reading the question alone: a brake on drift."""
    said = base.predict([row.student for row in rows], answers)
    return sequence_mean(drift(student, said, answers.mask), counted)
