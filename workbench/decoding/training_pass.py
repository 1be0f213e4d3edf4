"""The student's training pass over packed weights: logits with gradients, reusing what sampling computed.

The answers were sampled by the very weights that are trained, one token after the other. What each projection gave
then is what it gives now, so a `Tape` keeps it, and the training pass only computes what lies between the projections:
norms, rotations, attention, gates. A prompt is read once for all of its answers, as it was when they were sampled.

Shapes: N prompts of P tokens, B = N * G answers of T tokens, H query heads, K key/value heads, D head size. Prompt and
answer tokens go through the projections together, as one list of N * P + (T - 1) * B tokens, answers token by token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.decoding.norms import rms_norm
from workbench.decoding.packed import PackedDecoder

Outputs = tuple[Tensor, Tensor, Tensor, Tensor]
"""What one layer's projections gave: qkv, out, gate and up, down."""


@dataclass
class Tape:
    """What every projection gave while a batch was sampled.

    `now` takes the outputs of the forward call under way, layer by layer; `end_prompt` and `end_token` file them.
    """

    now: list[Outputs] = field(default_factory=list)
    prompt: list[Outputs] = field(default_factory=list)
    answers: list[tuple[Tensor, list[Outputs]]] = field(default_factory=list)

    def end_prompt(self) -> None:
        """File the outputs [N, P, out] on the prompts."""
        self.prompt, self.now = self.now, []

    def end_token(self, rows: Tensor) -> None:
        """File the outputs [b, 1, out] on one more token of these answers."""
        self.answers.append((rows, self.now))
        self.now = []

    def tokens(self, count: int, read: int) -> Iterator[Outputs]:
        """Layer by layer, the outputs [N * P + read * B, out] on prompts, then on `read` tokens of all B answers.

        Answers lie token after token: first the first token of each, then the second of each. A row that has ended
        gives zeros, which nothing that is scored looks at.
        """
        for index, prompt in enumerate(self.prompt):
            qkv, out, gate_up, down = (
                torch.cat(
                    [outputs.flatten(0, 1)]
                    + [_all_rows(layers[index][part][:, 0], rows, count) for rows, layers in self.answers[:read]]
                )
                for part, outputs in enumerate(prompt)
            )
            yield qkv, out, gate_up, down


def _all_rows(output: Tensor, rows: Tensor, count: int) -> Tensor:
    """Outputs [b, out] of some rows as [B, out], zero elsewhere."""
    if len(rows) == count:
        return output
    return output.new_zeros(count, output.shape[-1]).index_copy_(0, rows, output)


def training_hidden(
    decoder: PackedDecoder,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    answer_ids: Tensor,
    tape: Tape | None = None,
) -> Tensor:
    """What the head is given [B, T, D] at each answer token, differentiable in the LoRA factors of `decoder`.

    Args:
        decoder: packed weights, refreshed since the last update.
        prompt_ids, prompt_mask: [N, P], padded on the left.
        answer_ids: [B, T], padded on the right, the G answers to a prompt next to each other.
        tape: recorded while the same weights sampled these answers; None computes everything.
    """
    (prompts, width), (count, length) = prompt_ids.shape, answer_ids.shape
    each = torch.arange(prompts, device=answer_ids.device).repeat_interleave(count // prompts)
    read = length - 1  # the last token predicts nothing that is scored
    split = prompts * width
    blocked = prompt_mask == 0
    masks = (
        decoder.attention_bias(blocked, width),
        decoder.attention_bias(F.pad(blocked[each], (0, read)), read) if read else None,
    )
    positions = (prompt_mask.cumsum(1) - 1).clamp_(min=0)
    later = prompt_mask.sum(1)[None, each] + torch.arange(read, device=answer_ids.device)[:, None]
    cos, sin = decoder.rotation(torch.cat([positions.flatten(), later.flatten()])[None])
    x = F.embedding(torch.cat([prompt_ids.flatten(), answer_ids[:, :read].T.flatten()]), decoder.embedding)
    recorded = tape.tokens(count, read) if tape is not None else iter(lambda: (None,) * 4, 0)
    # One prompt, one answer: the keys need not be copied for each answer.
    shared = each if count > prompts else None
    for layer, (qkv, out, gate_up, down) in zip(decoder.layers, recorded, strict=tape is not None):
        h = rms_norm(x, layer.attention_norm, decoder.epsilon)
        q, k, v = decoder.heads_of(layer, layer.qkv.train(h, qkv)[None], cos, sin)
        q_p, k_p, v_p = (t[0, :split].view(prompts, width, *t.shape[2:]).transpose(1, 2) for t in (q, k, v))
        attended = [decoder.attend(q_p, k_p, v_p, masks[0]).transpose(1, 2).flatten(0, 1).flatten(1)]
        if read:
            q_a, k_a, v_a = (t[0, split:].view(read, count, *t.shape[2:]).permute(1, 2, 0, 3) for t in (q, k, v))
            k_p, v_p = (t if shared is None else t[shared] for t in (k_p, v_p))
            given = decoder.attend(q_a, torch.cat([k_p, k_a], 2), torch.cat([v_p, v_a], 2), masks[1])
            attended.append(given.permute(2, 0, 1, 3).flatten(0, 1).flatten(1))
        x = x + layer.out.train(torch.cat(attended), out)
        h = rms_norm(x, layer.mlp_norm, decoder.epsilon)
        gate, up = layer.gate_up.train(h, gate_up).chunk(2, -1)
        x = x + layer.down.train(F.silu(gate) * up, down)
    last = x[:split].view(prompts, width, -1)[:, -1][each]
    scored = torch.cat([last[:, None], x[split:].view(read, count, x.shape[-1]).transpose(0, 1)], 1)
    return rms_norm(scored, decoder.final_norm, decoder.epsilon)
