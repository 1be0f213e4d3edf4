"""Scores given completions: what a model says at each of their tokens after a prompt, without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.decoding import Decoder, FlatDecoder, Head, ModelDecoder, Predictions
from workbench.execution import Execution
from workbench.sampling import Completions, pad_left

# Prompts that are read together, and their keys and values: few, so that this is not a run's highest moment.
_GROUP = 32
_GROUP_BYTES = 128_000_000


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
        budget: most bytes of kept keys and values, the first prompts' first; prompts beyond it are read in each step.

    Attributes:
        left: bytes of the budget that its prompts do not take.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        pad: int,
        frozen_prompts: Sequence[tuple[int, ...]] = (),
        head: Head | None = None,
        budget: int = Execution().prefix_bytes,
    ) -> None:
        self._decoder = decoder
        self._pad = pad
        self._head = head
        self._group_of: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        self._kept: dict[tuple[int, ...], Tensor] = {}
        self.left = budget
        if not isinstance(decoder, FlatDecoder):
            return
        for group in _groups(frozen_prompts, decoder.bytes_per_token, budget):
            self._group_of.update(dict.fromkeys(group, group))
            self.left -= decoder.bytes_per_token * sum(map(len, group))

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
        run = self._decoder.forward if self._head is None else self._decoder.forward_hidden
        if isinstance(self._decoder, ModelDecoder) and self._decoder.recurrent:
            # Nothing goes on from what it remembers of a prompt by several tokens, so both are read in one go.
            ids, mask = pad_left(prompts, self._pad, device)
            ids = torch.cat([ids, completions.ids[:, :-1]], 1)
            mask = torch.cat([mask, mask.new_ones(len(mask), steps - 1)], 1)
            return Predictions(run(ids, mask, self._decoder.allocate(*ids.shape), keep=steps), self._head)
        cache, order = self._read([prompt[:-1] for prompt in prompts], steps, device)
        last = torch.tensor([[prompt[-1]] for prompt in prompts], device=device)
        # The token before each scored one: the prompt's last, then the completion without its last.
        inputs = torch.cat([last, completions.ids[:, :-1]], 1)
        if order == list(range(len(order))):
            return Predictions(run(inputs, None, cache, keep=steps), self._head)
        there = torch.tensor(order, device=device)
        return Predictions(run(inputs[there], None, cache, keep=steps)[there.argsort()], self._head)

    def _read(self, prompts: list[tuple[int, ...]], room: int, device: torch.device) -> tuple[Any, list[int]]:
        """A cache that holds these prompts, with room for more tokens; and which of them each of its rows holds.

        A prompt that several answers share is read once.
        """
        decoder = self._decoder
        kept = [row for row, prompt in enumerate(prompts) if prompt in self._group_of]
        fresh: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in enumerate(prompts):
            if prompt not in self._group_of:
                fresh.setdefault(prompt, []).append(row)
        place = [i for i, rows in enumerate(fresh.values()) for _ in rows[1:]]
        order = [rows[0] for rows in fresh.values()] + [row for rows in fresh.values() for row in rows[1:]] + kept
        if not isinstance(decoder, FlatDecoder):
            cache = self._run(list(fresh), room, device)
            index = torch.tensor([*range(len(fresh)), *place], device=device)
            return (cache.rows(index) if place else cache), order
        for row in kept:
            if prompts[row] not in self._kept:
                group = self._group_of[prompts[row]]
                cache = self._run(group, 0, device)
                for member, prompt in enumerate(group):
                    self._kept[prompt] = cache.prefix(member, len(prompt))
        prefixes = [self._kept[prompts[row]] for row in kept]
        read = pad_left(list(fresh), self._pad, device) if fresh else None
        return decoder.join_prefixes(prefixes, room, read, place), order

    def _run(self, prompts: list[tuple[int, ...]], room: int, device: torch.device) -> Any:
        ids, mask = pad_left(prompts, self._pad, device)
        cache = self._decoder.allocate(len(prompts), ids.shape[1] + room)
        self._decoder.forward_hidden(ids, mask, cache)
        return cache


def _groups(prompts: Sequence[tuple[int, ...]], bytes_per_token: int, budget: int) -> list[list[tuple[int, ...]]]:
    """The prompts without their last token, each once, as they are read together, as many as the budget allows."""
    groups: list[list[tuple[int, ...]]] = []
    room = 0
    for prompt in dict.fromkeys(prompt[:-1] for prompt in prompts):
        size = bytes_per_token * len(prompt)
        budget -= size
        if budget < 0:
            break
        if not groups or len(groups[-1]) == _GROUP or size > room:
            groups.append([])
            room = _GROUP_BYTES
        groups[-1].append(prompt)
        room -= size
    return groups
