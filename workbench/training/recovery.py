"""What happens when memory runs out in a step: half as much at a time, and the step again from its beginning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from workbench.allocations import free_memory, in_brief, ran_out
from workbench.events import Step
from workbench.execution import Execution
from workbench.sampling import Stopped
from workbench.training.stopwatch import Stopwatch
from workbench.training.together import GivenUp, crew


class _Elsewhere(Exception):
    """Memory ran out in another process of this run, before the processes of a step exchanged anything."""


class Vote:
    """Whether all processes of a run got through their own part of a step; called once by each that did.

    What comes after the call is exchanged, and cannot be taken again by one process alone.
    """

    def __init__(self) -> None:
        self.cast, self.sampling, self.learning = False, 0, 0

    def __call__(self) -> None:
        """Say so, and hear whether the others did."""
        self.count()
        if self.sampling or self.learning:
            raise _Elsewhere

    def count(self, *, sampling: bool = False, learning: bool = False) -> None:
        """Count in how many processes memory ran out, in either phase."""
        self.cast = True
        self.sampling, self.learning = crew().total((int(sampling), int(learning)))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a step.

    Attributes:
        work: how many answers are worked on at a time.
        through: the vote, called before the first exchange with other processes.
    """

    work: Execution
    should_stop: Callable[[], bool]
    clock: Stopwatch = field(default_factory=Stopwatch)
    through: Vote = field(default_factory=Vote)

    def lap(self, phase: str) -> None:
        """The time since the last lap was this phase's."""
        self.clock.lap(phase)

    def go_on(self) -> None:
        """Raises Stopped if the person asked to stop."""
        if self.should_stop():
            raise Stopped


def in_memory(
    step: Callable[[Attempt], Step],
    work: Execution,
    answers: int,
    should_stop: Callable[[], bool],
    *,
    samples: bool,
) -> tuple[Step, Execution]:
    """Take a step; as often as memory runs out, take it again with half as many answers at a time.

    A step is a function of the state it starts from, so the one that succeeds is the step that would have been
    taken had so few at a time been planned. Its event says so, once. Of several processes all take it again.

    Args:
        step: leaves the state as it was if it fails.
        answers: of a step, at most, in one process.
        samples: whether it begins by sampling, which is halved by itself.

    Raises:
        InputError: memory ran out with one answer at a time.
        Stopped: the person asked to stop.
    """
    planned = work
    while True:
        now = Attempt(work, should_stop)
        vote = now.through
        try:
            event = step(now)
            break
        except _Elsewhere:
            said = "in another process of this run"
        except Exception as error:
            # After the vote the others have gone on: what fails then ends the run.
            if not ran_out(error) or (vote.cast and not crew().alone):
                raise
            said = in_brief(error)
        # Here, not in the handler: there the trace back would keep the step's tensors alive.
        free_memory()
        if not vote.cast or crew().alone:
            sampling = samples and not now.clock.seconds
            vote.count(sampling=sampling, learning=not sampling)
        smaller: Execution | None = work
        for failed, phase in ((vote.sampling, True), (vote.learning, False)):
            if failed and smaller is not None:
                smaller = smaller.halved(answers, sampling=phase)
        if smaller is None:
            raise GivenUp(
                f"Memory ran out with one answer at a time ({said}).",
                "Lower --max-new-tokens or --rank, leave out the longest rows, load the model in 4-bit, or take a "
                "smaller one; `workbench plan MODEL` has the arithmetic. What was saved before is intact.",
            )
        work = smaller
    if work != planned:
        event = replace(event, smaller={"micro_batch": work.micro_batch, "at_once": work.at_once})
    return event, work
