"""Supervised fine-tuning on the same demonstrations: what SDFT is compared with.

Same rows, batches, adapter, schedule and averaging as `sdft`; only the step differs: the student is made to say the
demonstration word for word. Keep rows teach it the base's own answers, the fair counterpart of SDFT's keep rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.demonstrations import Demonstration
from workbench.divergence import sequence_mean
from workbench.events import Step
from workbench.prompts import PromptTokens
from workbench.roles import Roles
from workbench.sampling import Choice, Completions, pad_left, pad_right, sample
from workbench.settings import Settings
from workbench.training.batches import Plan, make_plan
from workbench.training.state import TrainingState
from workbench.training.stopwatch import Stopwatch
from workbench.training.student import completion_logits


def sft(
    roles: Roles,
    demonstrations: Sequence[Demonstration],
    settings: Settings,
    *,
    keep: Sequence[Demonstration] = (),
    state: TrainingState | None = None,
    should_stop: Callable[[], bool] = bool,
) -> Iterator[Step]:
    """Teach `roles.student` by SFT; arguments, result and errors as for `sdft`."""
    plan = make_plan(roles, demonstrations, keep, settings)
    plan = replace(plan, keep=_with_base_answers(roles, plan.keep, settings))
    return _steps(roles, plan, state or TrainingState.begin(roles, settings), should_stop)


def _steps(roles: Roles, plan: Plan, state: TrainingState, should_stop: Callable[[], bool]) -> Iterator[Step]:
    settings = plan.settings
    while state.step < settings.optim.steps and not should_stop():
        clock = Stopwatch()
        rows = [row for row in plan.batch(state.step) for _ in range(settings.rollout.rollouts)]
        targets = demonstrated(roles, rows)
        logits = completion_logits(roles, targets)
        per_token = F.cross_entropy(logits.transpose(1, 2), targets.ids, reduction="none")
        loss = sequence_mean(per_token, targets.mask)
        clock.lap("student")
        if should_stop():
            return
        rate, norm = state.update(loss)
        clock.lap("update")
        entropy, agreement = _look(logits.detach(), targets)
        kept = [i for i, row in enumerate(rows) if row.row.keep]
        yield Step(
            step=state.step,
            steps=settings.optim.steps,
            loss=float(loss.detach()),
            learning_rate=rate,
            gradient_norm=norm,
            tokens=int(targets.mask.sum()),
            length=float(targets.mask.sum(1).float().mean()),
            seconds=clock.seconds,
            entropy=entropy,
            agreement=agreement,
            keep_loss=float(sequence_mean(per_token.detach()[kept], targets.mask[kept])) if kept else None,
        )


def demonstrated(roles: Roles, rows: Sequence[PromptTokens]) -> Completions:
    """The demonstrations of a batch as completions of the student's prompts."""
    pad, device = roles.loaded.pad, roles.loaded.device
    prompt_ids, prompt_mask = pad_left([row.student for row in rows], pad, device)
    ids, mask = pad_right([row.target or () for row in rows], pad, device)
    return Completions(prompt_ids, prompt_mask, ids, mask)


def _with_base_answers(roles: Roles, keep: list[PromptTokens], settings: Settings) -> list[PromptTokens]:
    """Keep rows with what the base answers, greedily, as their target."""
    if not keep:
        return keep
    answers = sample(
        roles.base_decoder,
        [row.student for row in keep],
        end=roles.loaded.end,
        pad=roles.loaded.pad,
        longest=settings.rollout.max_new_tokens,
        choice=Choice(temperature=0),
        device=roles.loaded.device,
    )
    return [replace(row, target=tuple(ids)) for row, ids in zip(keep, answers.lists(), strict=True)]


@torch.no_grad()
def _look(logits: Tensor, targets: Completions) -> tuple[float, float]:
    """Student's entropy in nats and its agreement with the target's tokens, means over tokens."""
    counted = targets.mask.bool()
    log_p = logits[counted].log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1).mean()
    agreement = (log_p.argmax(-1) == targets.ids[counted]).float().mean()
    return float(entropy), float(agreement)
