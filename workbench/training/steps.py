"""What the steps of every method share: one is taken after the other, and each ends with an update and an event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from workbench.events import Step
from workbench.execution import Execution
from workbench.prompts import PromptTokens
from workbench.sampling import Completions, Stopped
from workbench.training.batches import Plan
from workbench.training.comparing import Seen
from workbench.training.recovery import Attempt, in_memory
from workbench.training.samples import show
from workbench.training.state import Overflowed, TrainingState
from workbench.training.together import crew


def take(
    step: Callable[[Attempt], Step],
    plan: Plan,
    state: TrainingState,
    should_stop: Callable[[], bool],
    work: Execution,
    *,
    samples: bool,
) -> Iterator[Step]:
    """The steps that are left of a run, until all are taken or the person asks to stop.

    Args:
        step: takes one, and leaves the state as it was if it does not get to its end.
        work: how many answers are worked on at a time; fewer from the step on in which memory runs out.
        samples: whether a step begins by sampling.
    """
    state.lowered = 0
    most = crew().largest(plan.prompts) * plan.settings.rollout.rollouts
    with crew().stopping(should_stop) as asked_to_stop:
        if not crew().alone:  # all of them stop between two steps, or none
            should_stop = bool
        while state.step < plan.settings.optim.steps and not asked_to_stop():
            try:
                event, work = in_memory(step, work, most, should_stop, samples=samples)
            except Overflowed:  # in all processes alike: what they found is added up before it is looked at
                continue
            except Stopped:
                return
            yield event


def finish(
    state: TrainingState, now: Attempt, rows: Sequence[PromptTokens], seen: Seen, answers: Completions, *, samples: bool
) -> Step:
    """Move the student by the gradient that was added up, and say what the step was like.

    Args:
        rows: of the whole step, one for each answer.
        seen, answers: of this process's part of it.
        samples: whether the event holds some answers with the divergence of their tokens.
    """
    tokenizer, pad = state.roles.loaded.tokenizer, state.roles.loaded.pad
    now.through()
    seen, answers = crew().all_of(seen, answers, pad)
    rate, norm = state.update(seen.loss)
    now.lap("update")
    means = seen.means()
    return Step(
        step=state.step,
        steps=state.settings.optim.steps,
        loss=seen.loss,
        learning_rate=rate,
        gradient_norm=norm,
        tokens=means.tokens,
        length=float(answers.mask.sum(1).float().mean()),
        seconds=now.clock.seconds,
        entropy=means.entropy,
        agreement=means.agreement,
        keep_loss=seen.keep_loss(rows),
        samples=show(tokenizer, rows, answers, seen.per_token * seen.counted, seen.choices()) if samples else (),
    )
