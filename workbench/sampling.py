"""Rollouts: the student's own answers, sampled in one batch with a cache of keys and values.

The prompt is read once, however many answers are sampled from it; a row that has ended leaves the batch; each row
draws its own random numbers, fixed by the seed, so that a row's answer does not depend on its neighbours or on
when they end. Sampling is by inverting the cumulative distribution: one uniform number per token.

Shapes: B rows, P prompt tokens (padded on the left), T completion tokens (padded on the right), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.decoding import Decoder, PackedDecoder, Tape
from workbench.decoding.captured import in_steps

COUNT_EVERY = {"cuda": 8}
"""Tokens after which it is asked how many rows have ended, by kind of device; elsewhere after each."""

LARGE = 8192
"""Tokens of a vocabulary that is searched block by block, and those of a block."""
BLOCK = 128


class Stopped(Exception):
    """Raised inside a phase when the person asked to stop; the step in progress is dropped."""


@dataclass(frozen=True, slots=True)
class Completions:
    """A batch of prompts with their completions, padded. Masks are 1 on real tokens.

    Attributes:
        prompt_ids, prompt_mask: [B, P], padded on the left.
        ids, mask: [B, T], padded on the right; the end-of-turn token is part of a completion.
        rollouts: how many completions of each prompt lie next to each other.
        tape: what the model computed while it sampled, where that was recorded.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    ids: Tensor
    mask: Tensor
    rollouts: int = 1
    tape: Tape | None = None

    def lists(self) -> list[list[int]]:
        """The completions as lists of token ids, without padding."""
        lengths = self.mask.sum(1).tolist()
        return [row[:n] for row, n in zip(self.ids.tolist(), lengths, strict=True)]


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Token ids and mask [B, P] of ragged rows, padded on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(r)) + list(r) for r in rows], device=device)
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=device)
    return ids, mask


def pad_right(rows: Sequence[Sequence[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Token ids and mask [B, T] of ragged rows, padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([list(r) + [pad] * (width - len(r)) for r in rows], device=device)
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows], device=device)
    return ids, mask


@dataclass(frozen=True, slots=True)
class Choice:
    """How the next token is chosen. Temperature 0 takes the most likely token (greedy decoding)."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __call__(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Next tokens [B] from logits [B, V] and numbers [B] drawn uniformly from [0, 1)."""
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = logits.float()
        probabilities = (logits if self.temperature == 1 else logits / self.temperature).softmax(-1)
        if self.top_k or self.top_p < 1:
            return self._from_best(probabilities, uniform)
        return _invert(probabilities, uniform)

    def _from_best(self, probabilities: Tensor, uniform: Tensor) -> Tensor:
        best, tokens = probabilities.sort(-1, descending=True)
        if self.top_k:
            # Of what is left the shares sum to one again, and top_p is of those, as in transformers.
            best = best[:, : self.top_k] / best[:, : self.top_k].sum(-1, keepdim=True)
        # The token that carries the sum past top_p is still in (Holtzman et al. 2020).
        best = best.masked_fill(best.cumsum(-1) - best > self.top_p, 0)
        return tokens.gather(-1, _invert(best, uniform)[:, None])[:, 0]


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """Index [B] at which the running sum of weights [B, V] passes `uniform` of the whole."""
    if weights.shape[-1] > LARGE:
        return _invert_in_blocks(weights, uniform)
    # Double precision: over a large vocabulary a float32 sum would lose the unlikely tokens.
    total = weights.double().cumsum(-1)
    index = torch.searchsorted(total, uniform.double()[:, None] * total[:, -1:], right=True)[:, 0]
    return index.clamp_(max=weights.shape[-1] - 1)


def _invert_in_blocks(weights: Tensor, uniform: Tensor) -> Tensor:
    """`_invert`: first in which block of weights, then at which weight of the block.

    A running sum over a whole vocabulary has to be taken from its start to its end; those of blocks need not.
    """
    vocabulary = weights.shape[-1]
    blocks = F.pad(weights, (0, -vocabulary % BLOCK)).view(len(weights), -1, BLOCK)
    sums = blocks.sum(-1).double()
    total = sums.cumsum(-1)
    sought = uniform.double()[:, None] * total[:, -1:]
    block = torch.searchsorted(total, sought, right=True).clamp_(max=total.shape[-1] - 1)
    size = sums.gather(-1, block)
    # Rounding must lead neither before the block nor behind it, where a token without any weight may lie.
    share = ((sought - total.gather(-1, block) + size) / size).clamp_(0, 1 - 2**-52)[:, 0]
    own = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0]
    return (block[:, 0] * BLOCK + _invert(own, share)).clamp_(max=vocabulary - 1)


def sample(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    end: frozenset[int],
    pad: int,
    longest: int,
    seed: int = 0,
    rollouts: int = 1,
    choice: Choice = Choice(),
    device: Any = None,
    should_stop: Callable[[], bool] = bool,
    on_token: Callable[[Tensor, Tensor], None] | None = None,
    record: bool = False,
    uniform: Tensor | None = None,
) -> Completions:
    """Sample `rollouts` completions of each prompt; those of one prompt lie next to each other.

    Args:
        decoder: the weights that answer.
        prompts: token ids; each is read once.
        end: tokens that end an answer (they stay part of it). Empty: every answer has `longest` tokens.
        pad: the token that fills rows up.
        longest: most tokens of an answer, the end token included.
        seed: fixes the random numbers of every row.
        should_stop: asked at every token.
        on_token: called with the rows still going [b] and their new tokens [b], for those who stream.
        record: keep what a packed decoder computes, for a training pass over the same weights.
        uniform: the random numbers [B, longest] themselves, in place of the seed's.

    Raises:
        Stopped: `should_stop` said yes.
    """
    prompt_ids, prompt_mask = pad_left(prompts, pad, device)
    count, width = len(prompts) * rollouts, prompt_ids.shape[1]
    cache = decoder.allocate(len(prompts), width + longest)
    tape = Tape() if record and isinstance(decoder, PackedDecoder) else None
    more: dict[str, Any] = {} if tape is None else {"record": tape.now}
    logits = decoder.forward(prompt_ids, prompt_mask, cache, **more)[:, -1]
    if tape is not None:
        tape.end_prompt()
    if rollouts > 1:
        each = torch.arange(len(prompts), device=prompt_ids.device).repeat_interleave(rollouts)
        prompt_ids, prompt_mask, logits = prompt_ids[each], prompt_mask[each], logits[each]
        cache = cache.rows(each)
    if tape is None:
        decoder, cache = in_steps(decoder, cache)
    if uniform is None:
        uniform = torch.rand(count, longest, generator=torch.Generator().manual_seed(seed))
    uniform = uniform.to(prompt_ids.device)
    ids = torch.full((count, longest), pad, dtype=torch.long, device=prompt_ids.device)
    mask = torch.zeros_like(ids)
    ends = torch.tensor(sorted(end), dtype=torch.long, device=ids.device)
    going = torch.arange(count, device=ids.device)
    ended = torch.zeros(count, dtype=torch.bool, device=ids.device)
    every = COUNT_EVERY.get(ids.device.type, 1)
    for t in range(longest):
        if should_stop():
            raise Stopped
        token = choice(logits, uniform[going, t])
        ids[going, t] = torch.where(ended, pad, token)
        mask[going, t] = (~ended).long()
        if on_token is not None:
            on_token(going[~ended], token[~ended])
        ended = ended | torch.isin(token, ends)
        if t + 1 == longest:
            break
        # To count is to wait for the device. A processor has nothing to wait for; a card is asked now and then only.
        left = len(going) if (t + 1) % every else len(going) - int(ended.sum())
        if left == 0:
            break
        # Taking rows out copies the cache, so it is done when a quarter of them has ended, not one by one.
        if left <= 0.75 * len(going):
            rows = (~ended).nonzero()[:, 0]
            going, token, ended, cache = going[rows], token[rows], ended[rows], cache.rows(rows)
        more = {} if tape is None else {"record": tape.now}
        logits = decoder.forward(token[:, None], None, cache, **more)[:, -1]
        if tape is not None:
            tape.end_token(going)
    used = int(mask.sum(1).max())
    return Completions(prompt_ids, prompt_mask, ids[:, :used], mask[:, :used], rollouts, tape)
