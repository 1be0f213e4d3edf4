"""A step's answers, sampled and looked at a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.execution import Execution
from workbench.prompts import PromptTokens
from workbench.roles import Roles
from workbench.sampling import Choice, Completions, sample
from workbench.settings import Settings
from workbench.training.batches import step_seed


def rollouts(
    roles: Roles,
    rows: Sequence[PromptTokens],
    settings: Settings,
    step: int,
    should_stop: Callable[[], bool],
    work: Execution = Execution(),
    share: slice = slice(None),
) -> Completions:
    """y ~ student(. | x): the student's own answers to the batch's prompts, or to some of them."""
    chosen, loaded = settings.rollout, roles.loaded
    total, rows = len(rows), rows[share]
    count = len(rows) * chosen.rollouts
    # Each answer's random numbers are its own, however many are sampled together.
    seed = step_seed(settings.optim.seed, step)
    uniform = torch.rand(total * chosen.rollouts, chosen.max_new_tokens, generator=torch.Generator().manual_seed(seed))[
        (share.start or 0) * chosen.rollouts :
    ][:count]
    parts = work.sampled(count)
    made = []
    for part in parts:
        whole = part.start % chosen.rollouts == part.stop % chosen.rollouts == 0
        together = chosen.rollouts if whole else 1
        prompts = [rows[i // chosen.rollouts].student for i in range(part.start, part.stop, together)]
        made.append(
            sample(
                roles.student_decoder,
                prompts,
                end=loaded.end,
                pad=loaded.pad,
                longest=chosen.max_new_tokens,
                rollouts=together,
                choice=Choice(chosen.temperature, chosen.top_p, chosen.top_k),
                device=loaded.device,
                should_stop=should_stop,
                # What sampling computed serves one training pass over the same answers, not several over some.
                record=len(parts) == len(work.passes(count)) == 1,
                uniform=uniform[part],
            )
        )
    return made[0] if len(made) == 1 else _joined(made, loaded.pad, chosen.rollouts)


def part_of(completions: Completions, part: slice) -> Completions:
    """Some of the answers with their prompts, without the columns that only others needed."""
    count, each = len(completions.ids), completions.rollouts
    if part.start == 0 and part.stop >= count:
        return completions
    # Answers of whole prompts, or some of one prompt's, share it still.
    stop = min(part.stop, count)
    shared = min(each, stop - part.start)
    if any(number % shared for number in (each, part.start, stop)):
        shared = 1
    prompt_mask, mask = completions.prompt_mask[part], completions.mask[part]
    width, length = int(prompt_mask.sum(1).max()), max(1, int(mask.sum(1).max()))
    left = prompt_mask.shape[1] - width
    return Completions(
        completions.prompt_ids[part, left:],
        prompt_mask[:, left:],
        completions.ids[part, :length],
        mask[:, :length],
        shared,
    )


def _joined(parts: Sequence[Completions], pad: int, rollouts: int) -> Completions:
    """Answers that were sampled apart, as one batch."""
    width = max(p.prompt_ids.shape[1] for p in parts)
    length = max(p.ids.shape[1] for p in parts)

    def wide(tensors: list[Tensor], left: bool, fill: int) -> Tensor:
        to = width if left else length
        return torch.cat(
            [F.pad(t, (to - t.shape[1], 0) if left else (0, to - t.shape[1]), value=fill) for t in tensors]
        )

    return Completions(
        wide([p.prompt_ids for p in parts], True, pad),
        wide([p.prompt_mask for p in parts], True, 0),
        wide([p.ids for p in parts], False, pad),
        wide([p.mask for p in parts], False, 0),
        rollouts,
    )
