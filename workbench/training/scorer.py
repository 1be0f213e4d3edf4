"""Scores given completions: what a model says at each of their tokens after a prompt, without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.decoding import Decoder, FlatDecoder, Head, Predictions
from workbench.sampling import Completions, pad_left

_GROUP = 32


class Scorer:
    """Runs prompts and completions through one decoder.

    While the weights are frozen, the keys and values of a prompt never change in the whole run: they are computed
    once and kept, so that only the completion's tokens are run in each step. They are computed in fixed groups of
    prompts, not as batches happen to need them: rounding depends on what is computed together, and a run that goes
    on from a checkpoint must see the same numbers as one that was never interrupted.

    Args:
        decoder: the weights that score.
        pad: the token that fills rows up.
        frozen_prompts: every prompt that may be asked for, if the weights stay as they are for the scorer's whole
            life; empty otherwise.
        head: what turns the decoder's hidden states into logits; None where only the decoder knows.
        budget: most bytes of kept keys and values; prompts beyond it are run in each step.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        pad: int,
        frozen_prompts: Sequence[tuple[int, ...]] = (),
        head: Head | None = None,
        budget: int = 512_000_000,
    ) -> None:
        self._decoder = decoder
        self._pad = pad
        self._head = head
        self._groups: list[list[tuple[int, ...]]] = []
        self._group_of: dict[tuple[int, ...], int] = {}
        self._kept: dict[tuple[int, ...], Tensor] = {}
        if not isinstance(decoder, FlatDecoder):
            return
        different = list(dict.fromkeys(prompt[:-1] for prompt in frozen_prompts))
        for start in range(0, len(different), _GROUP):
            group = different[start : start + _GROUP]
            budget -= decoder.bytes_per_token * sum(map(len, group))
            if budget < 0:
                break
            self._group_of.update(dict.fromkeys(group, len(self._groups)))
            self._groups.append(group)

    def logits(self, prompts: Sequence[tuple[int, ...]], completions: Completions) -> Tensor:
        """Logits [B, T, V] that the decoder gives to each token of the completions; see `predict`."""
        return self.predict(prompts, completions).logits()

    def predict(self, prompts: Sequence[tuple[int, ...]], completions: Completions) -> Predictions:
        """What the decoder says [B, T, ...] at each token of the completions.

        Args:
            prompts: B token id tuples; what the scorer reads before each completion.
            completions: of which `ids` and `mask` [B, T] are used. Positions past a row's end hold anything.
        """
        steps = completions.ids.shape[1]
        device = completions.ids.device
        cache = self._read([p[:-1] for p in prompts], steps, device)
        last = torch.tensor([[p[-1]] for p in prompts], device=device)
        # The token before each scored one: the prompt's last, then the completion without its last.
        inputs = torch.cat([last, completions.ids[:, :-1]], 1)
        run = self._decoder.forward if self._head is None else self._decoder.forward_hidden
        return Predictions(run(inputs, None, cache, keep=steps), self._head)

    def _read(self, prompts: list[tuple[int, ...]], room: int, device: torch.device) -> Any:
        """A cache that holds these prompts, with room for more tokens."""
        decoder = self._decoder
        if not isinstance(decoder, FlatDecoder) or not all(p in self._group_of for p in prompts):
            return self._run(prompts, room, device)
        for prompt in prompts:
            if prompt not in self._kept:
                group = self._groups[self._group_of[prompt]]
                cache = self._run(group, 0, device)
                for row, member in enumerate(group):
                    self._kept[member] = cache.prefix(row, len(member))
        return decoder.join_prefixes([self._kept[p] for p in prompts], room)

    def _run(self, prompts: list[tuple[int, ...]], room: int, device: torch.device) -> Any:
        ids, mask = pad_left(prompts, self._pad, device)
        cache = self._decoder.allocate(len(prompts), ids.shape[1] + room)
        self._decoder.forward(ids, mask, cache)
        return cache
