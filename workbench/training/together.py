"""One run taught by several processes, a card each, started by `accelerate launch`; alone, nothing here does anything.

The prompts of a step are dealt out, each process answers and scores its own, and the gradients are added up: the step
is the one that a single process would take, up to rounding. Every process takes it; the first alone writes, measures
and is asked to stop. Sending between processes is accelerate's.

    accelerate launch --multi_gpu --num_processes 2 -m workbench teach support.jsonl --model Qwen/Qwen3-4B-Instruct-2507
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import InputError
from workbench.sampling import Completions
from workbench.training.comparing import Seen

_STEPS = "take the steps"
_WAIT = timedelta(hours=12)
"""How long the others wait for the first, which alone measures and saves; libraries give it 10 minutes."""


class GivenUp(InputError):
    """All processes of a run ended a step at once: none waits to be told. The first says why."""


@dataclass(frozen=True, slots=True)
class Crew:
    """The processes of a run, of which this is number `number`."""

    number: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        """Whether this process does all of it."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.number == 0

    def share(self, prompts: int) -> slice:
        """Which of a step's prompts are this process's.

        Raises:
            InputError: there are fewer than processes.
        """
        if prompts < self.size:
            raise InputError(
                f"A step has {prompts} prompts, and {self.size} processes were started.",
                f"Start {prompts} at most, or raise --batch.",
            )
        return slice(prompts * self.number // self.size, prompts * (self.number + 1) // self.size)

    def largest(self, prompts: int) -> int:
        """How many of a step's prompts the process with the most of them has."""
        return -(-prompts // self.size)

    def total(self, counts: Sequence[int]) -> list[int]:
        """Each count summed over the processes."""
        if self.alone:
            return list(counts)
        from accelerate import PartialState
        from accelerate.utils import reduce

        summed: Tensor = reduce(torch.tensor(counts, device=PartialState().device), "sum")
        return [int(count) for count in summed.tolist()]

    def told(self, value: Any) -> Any:
        """What the first process gave here."""
        if self.alone:
            return value
        from accelerate.utils import broadcast_object_list

        held = [value]
        broadcast_object_list(held)
        return held[0]

    def lead(self) -> None:
        """The first says that the steps of a run begin: the others, which wait in `follow`, take them with it."""
        if not self.alone:
            self.told(_STEPS)

    def follow(self, steps: Callable[[], Iterable[object]]) -> Any:
        """Another than the first: take the steps if they begin; returns what the first tells in the end."""
        said = self.told(None)
        if said == _STEPS:
            with suppress(GivenUp):
                for _ in steps():
                    pass
            said = self.told(None)
        return said

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their sum over the processes."""
        if self.alone:
            return
        from accelerate.utils import reduce

        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        total: Tensor = reduce(torch.cat([g.flatten() for g in gradients]), "sum")
        parts = torch.split(total, [g.numel() for g in gradients])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def all_of(self, seen: Seen, answers: Completions, pad: int) -> tuple[Seen, Completions]:
        """What all processes saw and sampled, in the order of the step's rows."""
        if self.alone:
            return seen, answers
        from accelerate.utils import gather_object

        mine = (seen.loss, seen.choices_by_part(), [t.cpu() for t in (*seen.tensors(), answers.ids, answers.mask)])
        found = gather_object([mine])
        width = max(tensors[0].shape[1] for _, _, tensors in found)
        counted, per_token, entropy, agrees, ids, mask = (
            torch.cat([F.pad(tensors[i], (0, width - tensors[i].shape[1]), value=fill) for _, _, tensors in found])
            for i, fill in enumerate((0, 0, 0, 0, pad, 0))
        )
        whole = Seen.of(counted, per_token, entropy, agrees, [part for _, parts, _ in found for part in parts])
        whole.loss = sum(loss for loss, _, _ in found)
        return whole, replace(answers, ids=ids, mask=mask, tape=None)

    @contextmanager
    def stopping(self, should_stop: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
        """Asked before each step, by all, whether to stop: as the first is told. When that one leaves, all do."""
        said = False

        def asked() -> bool:
            nonlocal said
            said = bool(self.told(should_stop() if self.first else False))
            return said

        try:
            yield asked
        except GivenUp:
            if self.first:
                raise
        except BaseException:
            if not self.alone and self.first and not said:
                self.told(True)
            raise


@cache
def crew() -> Crew:
    """The processes that were started together, by what `accelerate launch` says in the environment."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Crew()
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=_WAIT)
    # Its threads must end before Python does: one that asks for the interpreter afterwards aborts the process.
    atexit.register(state.destroy_process_group)
    return Crew(state.process_index, state.num_processes)
