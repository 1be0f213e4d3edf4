"""Scores given completions: the logits of each of their tokens after a prompt, without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.decoding import Decoder, PackedDecoder
from workbench.sampling import Completions, pad_left


class Scorer:
    """Runs prompts and completions through one decoder.

    While the weights are frozen, the keys and values of a prompt never change in the whole run: they are computed
    once and kept, within `budget` bytes, so that only the completion's tokens are run in each step.

    Args:
        decoder: the weights that score.
        frozen: whether they stay as they are for the scorer's whole life.
        pad: the token that fills rows up.
        budget: most bytes of kept keys and values.
    """

    def __init__(self, decoder: Decoder, *, frozen: bool, pad: int, budget: int = 512_000_000) -> None:
        self._decoder = decoder
        self._pad = pad
        self._left = budget
        self._kept: dict[tuple[int, ...], Tensor] | None = {} if frozen and isinstance(decoder, PackedDecoder) else None

    def logits(self, prompts: Sequence[tuple[int, ...]], completions: Completions) -> Tensor:
        """Logits [B, T, V] that the decoder gives to each token of the completions.

        Args:
            prompts: B token id tuples; what the scorer reads before each completion.
            completions: of which `ids` and `mask` [B, T] are used. Positions past a row's end hold anything.
        """
        steps = completions.ids.shape[1]
        cache = self._read([p[:-1] for p in prompts], steps)
        last = torch.tensor([[p[-1]] for p in prompts], device=completions.ids.device)
        # The token before each scored one: the prompt's last, then the completion without its last.
        inputs = torch.cat([last, completions.ids[:, :-1]], 1)
        return self._decoder.forward(inputs, None, cache, keep=steps)

    def _read(self, prompts: list[tuple[int, ...]], room: int) -> Any:
        if self._kept is None or not isinstance(self._decoder, PackedDecoder):
            return self._run(prompts, room)
        new = list(dict.fromkeys(p for p in prompts if p not in self._kept))
        if new:
            cache = self._run(new, 0)
            for row, prompt in enumerate(new):
                prefix = cache.prefix(row, len(prompt))
                size = prefix.numel() * prefix.element_size()
                if size > self._left:
                    return self._run(prompts, room)
                self._left -= size
                self._kept[prompt] = prefix
        return self._decoder.join_prefixes([self._kept[p] for p in prompts], room)

    def _run(self, prompts: list[tuple[int, ...]], room: int) -> Any:
        device = getattr(getattr(self._decoder, "embedding", None), "device", None)
        ids, mask = pad_left(prompts, self._pad, device)
        cache = self._decoder.allocate(len(prompts), ids.shape[1] + room)
        self._decoder.forward(ids, mask, cache)
        return cache
