"""What happens when memory runs out in a step: half as much at a time, and the step again from its beginning."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

import torch

from workbench.errors import InputError
from workbench.events import Step
from workbench.execution import Execution
from workbench.training.stopwatch import Stopwatch
from workbench.training.together import crew

_WORDS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, on the GPU or on the computer."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def free_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_memory(
    step: Callable[[Execution, Stopwatch], Step], work: Execution, answers: int, *, samples: bool
) -> tuple[Step, Execution]:
    """Take a step; as often as memory runs out, take it again with half as many answers at a time.

    A step is a function of the state it starts from, so the one that succeeds is the step that would have been
    taken had so few at a time been planned. Its event says so, once.

    Args:
        step: leaves the state as it was if it fails.
        answers: of a step.
        samples: whether it begins by sampling, which is halved by itself.

    Raises:
        InputError: memory ran out with one answer at a time.
    """
    planned = work
    while True:
        clock = Stopwatch()
        try:
            event = step(work, clock)
            break
        except Exception as error:
            # Of several processes all would have to take the step again, and only one knows.
            if not ran_out(error) or not crew().alone:
                raise
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Here, not in the handler: there the trace back would keep the step's tensors alive.
        free_memory()
        smaller = work.halved(answers, sampling=samples and not clock.seconds)
        if smaller is None:
            raise InputError(
                f"Memory ran out with one answer at a time ({said[:200]}).",
                "Lower --max-new-tokens or --rank, leave out the longest rows, load the model in 4-bit, or take a "
                "smaller one; `workbench plan MODEL` has the arithmetic. What was saved before is intact.",
            )
        work = smaller
    if work != planned:
        event = replace(event, smaller={"micro_batch": work.micro_batch, "at_once": work.at_once})
    return event, work
