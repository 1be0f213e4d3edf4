"""Supervised fine-tuning on the same demonstrations: what SDFT is compared with.

Same rows, batches, adapter, schedule and averaging as `sdft`; only the step differs: the student is made to say the
demonstration word for word. Keep rows teach it the base's own answers, the fair counterpart of SDFT's keep rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from workbench.demonstrations import Demonstration
from workbench.divergence import sequence_mean
from workbench.errors import InputError
from workbench.events import Step
from workbench.execution import Execution
from workbench.groups import Groups, too_little
from workbench.prompts import PromptTokens
from workbench.roles import Roles
from workbench.sampling import Completions, Stopped, pad_left, pad_right
from workbench.settings import Settings
from workbench.training.batches import Plan, make_plan
from workbench.training.comparing import Seen, say
from workbench.training.parts import part_of
from workbench.training.recovery import Attempt
from workbench.training.state import TrainingState
from workbench.training.steps import finish, take
from workbench.training.student import completion_predictions
from workbench.training.together import GivenUp, crew


def sft(
    roles: Roles,
    demonstrations: Sequence[Demonstration],
    settings: Settings,
    *,
    keep: Sequence[Demonstration] = (),
    state: TrainingState | None = None,
    should_stop: Callable[[], bool] = bool,
    execution: Execution = Execution(),
) -> Iterator[Step]:
    """Teach `roles.student` by SFT; arguments, result and errors as for `sdft`.

    Raises:
        InputError: moreover, a row has no demonstration.
    """
    refuse_lacking(demonstrations)
    plan = make_plan(roles, demonstrations, keep, settings)
    try:
        plan = replace(plan, keep=_with_base_answers(roles, plan.keep, settings, execution, should_stop))
    except Stopped:
        return iter(())
    return _steps(roles, plan, state or TrainingState.begin(roles, settings), should_stop, execution)


def _steps(
    roles: Roles, plan: Plan, state: TrainingState, should_stop: Callable[[], bool], work: Execution
) -> Iterator[Step]:
    settings = plan.settings

    def step(now: Attempt) -> Step:
        state.clear()
        rows, each = plan.batch(state.step), settings.rollout.rollouts
        share = crew().share(len(rows))
        rows = [row for row in rows for _ in range(each)]
        mine = rows[share.start * each : share.stop * each]
        targets = demonstrated(roles, mine)
        seen = Seen(targets.mask)
        for part in now.work.passes(len(mine)):
            few = part_of(targets, part)
            found = say(completion_predictions(roles, few, now.work.checkpointing), few.ids, few.mask)
            loss = sequence_mean(found.per_token, few.mask) * (len(few.ids) / len(rows))
            seen.add(part, found, float(loss.detach()))
            now.lap("student")
            now.go_on()
            state.accumulate(loss)
            now.lap("update")
        return finish(state, now, rows, seen, targets, samples=False)

    return take(step, plan, state, should_stop, work, samples=False)


def refuse_lacking(teaching: Sequence[Demonstration]) -> None:
    """Refuse rows without a demonstration, which is what SFT learns.

    Raises:
        InputError: rows have a context alone, which is enough for SDFT.
    """
    lacking = sum(row.demonstration is None for row in teaching)
    if lacking:
        raise InputError(
            f"{lacking} of {len(teaching)} rows to teach have no demonstration, only a context; SFT needs one in each.",
            "Add a demonstration column, or teach by SDFT alone.",
        )


def demonstrated(roles: Roles, rows: Sequence[PromptTokens]) -> Completions:
    """The demonstrations of a batch as completions of the student's prompts."""
    pad, device = roles.loaded.pad, roles.loaded.device
    prompt_ids, prompt_mask = pad_left([row.student for row in rows], pad, device)
    ids, mask = pad_right([row.target or () for row in rows], pad, device)
    return Completions(prompt_ids, prompt_mask, ids, mask)


def _with_base_answers(
    roles: Roles, keep: list[PromptTokens], settings: Settings, work: Execution, should_stop: Callable[[], bool]
) -> list[PromptTokens]:
    """Keep rows with what the base answers, greedily, as their target."""
    if not keep:
        return keep
    answers: list[list[int]] = []
    failed: InputError | None = None
    try:
        answers = Groups(work.asked).complete(
            roles.base_decoder,
            roles.loaded,
            [row.student for row in keep],
            longest=settings.rollout.max_new_tokens,
            should_stop=should_stop if crew().alone else bool,  # all of them stop between two steps, or none
        )
    except InputError as error:
        failed = error
    if any(crew().total((int(failed is not None),))):
        # Each process answers all of these rows; where one cannot, the others would wait for it in the first step.
        raise GivenUp(*(failed or too_little("in another process of this run")).args)
    return [replace(row, target=tuple(ids)) for row, ids in zip(keep, answers, strict=True)]
