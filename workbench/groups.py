"""Many prompts are answered a group at a time: as many together as memory was planned for, fewer where it runs out.

Every row is answered as by itself, up to rounding, so nothing but memory and time depends on the size of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from workbench.allocations import free_memory, in_brief, ran_out
from workbench.decoding import Decoder
from workbench.errors import InputError
from workbench.execution import QUESTIONS
from workbench.models import LoadedModel
from workbench.sampling import Choice, Stopped, sample


def too_little(said: str) -> InputError:
    """That not even one prompt could be answered, in the words of what failed."""
    return InputError(
        f"Memory ran out with one question at a time ({said}).",
        "Lower --max-new-tokens, leave out the longest rows, load the model in 4-bit, or take a smaller one; "
        "`workbench plan MODEL` has the arithmetic. What was saved before is intact.",
    )


class Groups:
    """How many prompts are answered together. Kept where more than one exam is sat, for what it has learned of memory.

    Attributes:
        size: at most so many; half as many from each time on that memory runs out.
    """

    def __init__(self, size: int = QUESTIONS) -> None:
        self.size = max(1, size)

    def complete(
        self,
        decoder: Decoder,
        loaded: LoadedModel,
        prompts: Sequence[tuple[int, ...]],
        *,
        longest: int,
        choice: Choice = Choice(temperature=0),
        seed: int = 0,
        should_stop: Callable[[], bool] = bool,
    ) -> list[list[int]]:
        """The decoder's answers to tokenised prompts, greedy by default, in the order asked.

        Args:
            longest: most tokens of an answer.
            should_stop: asked before each group and at every token.

        Raises:
            InputError: memory ran out with one prompt at a time.
            Stopped: `should_stop` said yes.
        """
        # Drawn for all of them, so that an answer does not depend on its group. Greedy answers draw nothing.
        uniform = None
        if choice.temperature:
            uniform = torch.rand(len(prompts), longest, generator=torch.Generator().manual_seed(seed))
        found: list[list[int]] = []
        while len(found) < len(prompts):
            if should_stop():
                raise Stopped
            part = slice(len(found), min(len(found) + self.size, len(prompts)))
            try:
                completions = sample(
                    decoder,
                    prompts[part],
                    end=loaded.end,
                    pad=loaded.pad,
                    longest=longest,
                    choice=choice,
                    device=loaded.device,
                    should_stop=should_stop,
                    uniform=None if uniform is None else uniform[part],
                )
                found += completions.lists()
                continue
            except Exception as error:
                if not ran_out(error):
                    raise
                said = in_brief(error)
            # Here, not in the handler: there the trace back would keep the group's tensors alive.
            free_memory()
            if part.stop - part.start == 1:
                raise too_little(said)
            self.size = (part.stop - part.start) // 2
        return found
