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

from workbench.demonstrations import Demonstration
from workbench.divergence import report, sequence_mean, skip_first, token_divergence
from workbench.events import Step
from workbench.prompts import PromptTokens
from workbench.roles import Roles
from workbench.sampling import Choice, Completions, Stopped, sample
from workbench.settings import Settings
from workbench.training.batches import Plan, make_plan, step_seed
from workbench.training.samples import show
from workbench.training.scorer import Scorer
from workbench.training.state import TrainingState
from workbench.training.stopwatch import Stopwatch
from workbench.training.student import completion_logits


def sdft(
    roles: Roles,
    demonstrations: Sequence[Demonstration],
    settings: Settings,
    *,
    keep: Sequence[Demonstration] = (),
    state: TrainingState | None = None,
    should_stop: Callable[[], bool] = bool,
) -> Iterator[Step]:
    """Teach `roles.student` by SDFT. Everything is checked now; the steps are taken as the result is iterated.

    Args:
        roles: base, teacher and student of one model; the student's adapter is changed in place.
        demonstrations: the teaching rows.
        keep: questions whose answers should stay as they are; a share of every batch.
        state: where to go on from; begun anew by default. Between two events it is a whole number of steps.
        should_stop: asked between phases and while sampling; the step in progress is then dropped.

    Returns:
        An iterator of one `Step` per optimizer step. It may be closed at any time.

    Raises:
        InputError: a row does not fit the model, or there is nothing to teach.
    """
    plan = make_plan(roles, demonstrations, keep, settings)
    return _steps(roles, plan, state or TrainingState.begin(roles, settings), should_stop)


def _steps(roles: Roles, plan: Plan, state: TrainingState, should_stop: Callable[[], bool]) -> Iterator[Step]:
    settings, pad = plan.settings, roles.loaded.pad
    kind = settings.teacher.teacher
    base = Scorer(roles.base_decoder, pad=pad, frozen_prompts=frozen_prompts(plan))
    teacher = base if kind == "base" else Scorer(roles.teacher_decoder(kind), pad=pad)
    while state.step < settings.optim.steps:
        clock = Stopwatch()
        rows = plan.batch(state.step)
        try:
            answers = rollouts(roles, rows, settings, state.step, should_stop)
        except Stopped:
            return
        rows = [row for row in rows for _ in range(settings.rollout.rollouts)]
        clock.lap("sample")
        teacher_logits = teach(teacher, base, rows, answers)
        clock.lap("teacher")
        if should_stop():
            return
        student_logits = completion_logits(roles, answers)
        per_token = compare(student_logits, teacher_logits, settings)
        counted = skip_first(answers.mask, settings.divergence.skip_tokens)
        loss = sequence_mean(per_token, counted)
        if settings.divergence.anchor:
            loss = loss + settings.divergence.anchor * anchor(base, student_logits, rows, answers, counted)
        clock.lap("student")
        rate, norm = state.update(loss)
        clock.lap("update")
        seen = report(per_token.detach(), student_logits.detach(), teacher_logits, counted)
        yield Step(
            step=state.step,
            steps=settings.optim.steps,
            loss=float(loss.detach()),
            learning_rate=rate,
            gradient_norm=norm,
            tokens=seen.tokens,
            length=float(answers.mask.sum(1).float().mean()),
            seconds=clock.seconds,
            entropy=seen.entropy,
            agreement=seen.agreement,
            keep_loss=keep_loss(per_token.detach(), counted, rows),
            samples=show(
                roles.loaded.tokenizer, rows, answers, per_token.detach() * counted, student_logits, teacher_logits
            ),
        )


def frozen_prompts(plan: Plan) -> list[tuple[int, ...]]:
    """What the frozen base will read in this run: teacher's prompts if it teaches, keep rows, questions to anchor."""
    taught = [row.teacher for row in plan.teaching] if plan.settings.teacher.teacher == "base" else []
    asked = [row.student for row in plan.teaching] if plan.settings.divergence.anchor else []
    return [*taught, *(row.teacher for row in plan.keep), *asked]


def rollouts(
    roles: Roles, rows: Sequence[PromptTokens], settings: Settings, step: int, should_stop: Callable[[], bool]
) -> Completions:
    """y ~ student(. | x): the student's own answers to the batch's prompts."""
    chosen = settings.rollout
    return sample(
        roles.student_decoder,
        [row.student for row in rows],
        end=roles.loaded.end,
        pad=roles.loaded.pad,
        longest=chosen.max_new_tokens,
        seed=step_seed(settings.optim.seed, step),
        rollouts=chosen.rollouts,
        choice=Choice(chosen.temperature, chosen.top_p, chosen.top_k),
        device=roles.loaded.device,
        should_stop=should_stop,
        record=True,
    )


def teach(teacher: Scorer, base: Scorer, rows: Sequence[PromptTokens], answers: Completions) -> Tensor:
    """Teacher's logits [B, T, V] on the answers; for keep rows the base's, which reads the question alone."""
    if teacher is base or not any(row.row.keep for row in rows):
        return teacher.logits([row.teacher for row in rows], answers)
    taught = sum(not row.row.keep for row in rows)  # keep rows come last in a batch
    shown, kept = (
        Completions(answers.prompt_ids[part], answers.prompt_mask[part], answers.ids[part], answers.mask[part])
        for part in (slice(None, taught), slice(taught, None))
    )
    return torch.cat(
        [
            teacher.logits([row.teacher for row in rows[:taught]], shown),
            base.logits([row.teacher for row in rows[taught:]], kept),
        ]
    )


def compare(student_logits: Tensor, teacher_logits: Tensor, settings: Settings) -> Tensor:
    """D(teacher, student) [B, T] at each token, as the settings say."""
    chosen = settings.divergence
    return token_divergence(
        student_logits,
        teacher_logits,
        kind=chosen.divergence,
        beta=chosen.beta,
        top_k=chosen.support_size,
        support=chosen.support,
        tail=chosen.tail,
        clip=chosen.clip or None,
        temperature=chosen.loss_temperature,
    )


def anchor(
    base: Scorer, student_logits: Tensor, rows: Sequence[PromptTokens], answers: Completions, counted: Tensor
) -> Tensor:
    """KL(base || student) on the same answers, both reading the question alone: a brake on drift."""
    base_logits = base.logits([row.student for row in rows], answers)
    return sequence_mean(token_divergence(student_logits, base_logits), counted)


def keep_loss(per_token: Tensor, counted: Tensor, rows: Sequence[PromptTokens]) -> float | None:
    """Mean divergence of the batch's keep rows, None without any."""
    kept = [i for i, row in enumerate(rows) if row.row.keep]
    return float(sequence_mean(per_token[kept], counted[kept])) if kept else None
