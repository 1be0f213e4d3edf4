"""The forward pass of a Llama-style decoder without gradients, over packed weights.

Rollouts and a frozen teacher need no autograd, no hooks and no cache classes, and on small models those cost
more than the arithmetic. `PackedDecoder` holds one plain copy of the weights (the LoRA update merged in, where
there is one), the projections of a layer packed into as few matrix products as the architecture allows, and
writes keys and values into buffers that are allocated once.

Covers the families whose layers are RMSNorm -> attention (RoPE, grouped queries) -> RMSNorm -> SwiGLU: Qwen2,
Qwen3, Llama, SmolLM3-like models without sliding windows. `supports` says whether a model is one of them. Weights
that are quantised or large are never unpacked or copied: `live.py` runs the same loop over the layers themselves.

Shapes: B rows, T new tokens, L cached tokens, H query heads, G key/value heads, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from workbench.decoding.norms import rms_norm
from workbench.decoding.products import linear
from workbench.decoding.projection import Projection, pack

_FAMILIES = ("qwen2", "qwen3", "llama")


@dataclass
class KeyValues:
    """Keys and values of B rows in buffers of fixed length; `length` tokens of it are filled.

    `keys` and `values` hold one tensor [B, G, capacity, D] per layer; `blocked` [B, capacity] is True where a
    position must not be attended to (left padding). Positions count real tokens only.
    """

    keys: list[Tensor]
    values: list[Tensor]
    blocked: Tensor
    next_position: Tensor
    length: int = 0

    def prefix(self, row: int, tokens: int) -> Tensor:
        """Copy of one row's last `tokens` filled tokens, [layers, 2, G, tokens, D], for `join_prefixes`."""
        kept = slice(self.length - tokens, self.length)
        pairs = zip(self.keys, self.values, strict=True)
        return torch.stack([torch.stack([k[row, :, kept], v[row, :, kept]]) for k, v in pairs])

    def front(self, rows: int) -> KeyValues:
        """The first rows, as a part of the same buffers; what is counted is counted for the part alone."""
        keys, values = ([buffer[:rows] for buffer in buffers] for buffers in (self.keys, self.values))
        return KeyValues(keys, values, self.blocked[:rows], self.next_position[:rows], self.length)

    def rows(self, index: Tensor) -> KeyValues:
        """The cache of the chosen rows only, in this order (rows may repeat). This one is used up.

        One buffer after the other makes room for the next: two whole caches would be more than was planned.
        """
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                buffers[layer] = buffer.index_select(0, index)
        chosen = self.blocked.index_select(0, index), self.next_position.index_select(0, index)
        return KeyValues(self.keys, self.values, *chosen, self.length)

    def advance(self, new: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Make room for `new` tokens [B, T] with this mask: their positions, and what is blocked [B, L + T] to them."""
        start, self.length = self.length, self.length + new
        if mask is None:
            positions = self.next_position[:, None] + torch.arange(new, device=self.next_position.device)
            self.next_position = self.next_position + new
        else:
            positions = (self.next_position[:, None] + mask.cumsum(1) - 1).clamp_(min=0)
            self.next_position = self.next_position + mask.sum(1)
            self.blocked[:, start : self.length] = mask == 0
        return positions, self.blocked[:, : self.length]

    def hold(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's newest keys and values [B, T, G, D]; returns those of all tokens [B, G, L + T, D]."""
        end = self.length
        start = end - keys.shape[1]
        self.keys[layer][:, :, start:end] = keys.transpose(1, 2)
        self.values[layer][:, :, start:end] = values.transpose(1, 2)
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]


@dataclass
class _Layer:
    attention_norm: Tensor
    qkv: Projection
    qk_norm: Tensor | None
    out: Projection
    mlp_norm: Tensor
    gate_up: Projection
    down: Projection


def inner_model(model: Any) -> Any:
    """The causal language model itself, whether or not PEFT is around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def flat(model: Any) -> bool:
    """Whether `FlatDecoder`'s loop is this model's function: family, and no adapter on the embedding or the head."""
    config: Any = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        getattr(config, "model_type", None) in _FAMILIES
        and not getattr(config, "use_sliding_window", False)
        and getattr(config, "hidden_act", "silu") == "silu"
        and rope.get("rope_type", "default") in ("default", "linear", "llama3", "yarn")
        and not any(isinstance(m, BaseTunerLayer) for m in (model.model.embed_tokens, model.lm_head))
    )


def supports(model: nn.Module) -> bool:
    """Whether `PackedDecoder` computes the same function as this model: a flat one, plain weights of one precision.

    An adapter is kept in fp32 beside a model in bf16 or fp16; merged into its weights it would be rounded away.
    """
    config: Any = model.config
    return (
        flat(model)
        and not getattr(config, "attention_bias", False)
        and not getattr(config, "mlp_bias", False)
        and not getattr(config, "quantization_config", None)
        and all(p.is_floating_point() for p in model.parameters())
        and len({p.dtype for p in model.parameters()}) == 1
    )


class FlatDecoder:
    """A Llama-style decoder run by one flat loop over its layers; how a layer's products are done is left open.

    Args:
        model: a causal language model of a covered family, or the PEFT model around it.
    """

    def __init__(self, model: nn.Module) -> None:
        inner = inner_model(model)
        self._model = inner
        config = inner.config
        self.heads = int(config.num_attention_heads)
        self.groups = int(config.num_key_value_heads)
        self.head_size = int(getattr(config, "head_dim", None) or config.hidden_size // self.heads)
        self.epsilon = float(config.rms_norm_eps)
        rotary = inner.model.rotary_emb
        self._inverse_frequency = rotary.inv_freq.float()
        self._rope_scale = float(getattr(rotary, "attention_scaling", 1.0))
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Read the weights again, with the adapter's present update merged in: call it after each step."""
        trunk = self._model.model
        self.embedding = trunk.embed_tokens.weight
        self.final_norm = trunk.norm.weight
        self.head = self._model.lm_head.weight
        self.layers = [self._pack(layer) for layer in trunk.layers]

    def _pack(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return _Layer(
            attention_norm=layer.input_layernorm.weight,
            qkv=self._project((attention.q_proj, attention.k_proj, attention.v_proj)),
            qk_norm=self._qk_norm(attention),
            out=self._project((attention.o_proj,)),
            mlp_norm=layer.post_attention_layernorm.weight,
            gate_up=self._project((mlp.gate_proj, mlp.up_proj)),
            down=self._project((mlp.down_proj,)),
        )

    def _project(self, layers: Sequence[Any]) -> Any:
        """One call [..., in] -> [..., out] for linear layers that read the same input."""
        raise NotImplementedError

    def _qk_norm(self, attention: Any) -> Tensor | None:
        """Weights [H + G, D] of the norms of each query and key head (Qwen3 has them)."""
        if not hasattr(attention, "q_norm"):
            return None
        q, k = attention.q_norm.weight, attention.k_norm.weight
        return torch.cat([q.expand(self.heads, -1), k.expand(self.groups, -1)])

    @property
    def bytes_per_token(self) -> int:
        """Size of one token's keys and values in all layers."""
        return int(2 * len(self.layers) * self.groups * self.head_size * self.embedding.element_size())

    def allocate(self, rows: int, capacity: int) -> KeyValues:
        """Empty buffers for `rows` rows of up to `capacity` tokens."""
        like = self.embedding
        shape = (rows, self.groups, capacity, self.head_size)
        return KeyValues(
            [like.new_zeros(shape) for _ in self.layers],
            [like.new_zeros(shape) for _ in self.layers],
            torch.zeros(rows, capacity, dtype=torch.bool, device=like.device),
            torch.zeros(rows, dtype=torch.long, device=like.device),
        )

    def join_prefixes(
        self,
        prefixes: Sequence[Tensor],
        room: int,
        fresh: tuple[Tensor, Tensor] | None = None,
        again: Sequence[int] = (),
    ) -> KeyValues:
        """A cache whose rows hold prompts, padded on the left, with room for as many more tokens.

        Args:
            prefixes: of the last rows, as `KeyValues.prefix` copied them.
            fresh: ids and mask [F, P] of prompts that are read now, straight into the first F rows.
            again: which of the fresh prompts each of the next rows holds, too; they are copied, not read.
        """
        ids, mask = fresh or (self.embedding.new_zeros((0, 0), dtype=torch.long),) * 2
        first, lengths = len(ids), [prefix.shape[3] for prefix in prefixes]
        longest = max([ids.shape[1], *lengths])
        cache = self.allocate(first + len(again) + len(prefixes), longest + room)
        if first:
            left = (longest - ids.shape[1], 0)
            self.forward_hidden(F.pad(ids, left), F.pad(mask, left), cache.front(first))
        for row, source in enumerate(again, first):
            for buffer in (*cache.keys, *cache.values):
                buffer[row, :, :longest] = buffer[source, :, :longest]
            cache.blocked[row] = cache.blocked[source]
        for row, (prefix, length) in enumerate(zip(prefixes, lengths, strict=True), first + len(again)):
            for layer, (keys, values) in enumerate(zip(cache.keys, cache.values, strict=True)):
                keys[row, :, longest - length : longest] = prefix[layer, 0]
                values[row, :, longest - length : longest] = prefix[layer, 1]
            cache.blocked[row, : longest - length] = True
        read = mask.sum(1)
        cache.next_position = torch.cat([read, read[list(again)], torch.tensor(lengths, device=mask.device).long()])
        cache.length = longest
        return cache

    @torch.no_grad()
    def forward(
        self,
        ids: Tensor,
        mask: Tensor | None,
        cache: KeyValues,
        keep: int = 1,
        record: list[tuple[Tensor, Tensor, Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Logits [B, keep, V] of the last `keep` of the new tokens; see `forward_hidden`."""
        return linear(self.forward_hidden(ids, mask, cache, keep, record), self.head)

    @torch.no_grad()
    def forward_hidden(
        self,
        ids: Tensor,
        mask: Tensor | None,
        cache: KeyValues,
        keep: int = 1,
        record: list[tuple[Tensor, Tensor, Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """What the head is given [B, keep, D] at the last `keep` of the new tokens `ids` [B, T], which join `cache`.

        `mask` [B, T] is 1 on real tokens and 0 on padding (None: all real). `record` takes what the projections of
        each layer gave (see training_pass.py).
        """
        rows, new = ids.shape
        positions, blocked = cache.advance(new, mask)
        bias = self.attention_bias(blocked, new)
        cos, sin = self.rotation(positions)
        x = F.embedding(ids, self.embedding)
        for index, layer in enumerate(self.layers):
            h = rms_norm(x, layer.attention_norm, self.epsilon)
            qkv = layer.qkv(h)
            q, k, v = self.heads_of(layer, qkv, cos, sin)
            out = layer.out(self.attend_in(cache, index, q, k, v, bias).reshape(rows, new, -1))
            x = x + out
            h = rms_norm(x, layer.mlp_norm, self.epsilon)
            gate_up = layer.gate_up(h)
            gate, up = gate_up.chunk(2, -1)
            down = layer.down(F.silu(gate).mul_(up))
            x = x + down
            if record is not None:
                record.append((qkv, out, gate_up, down))
        return rms_norm(x[:, new - keep :], self.final_norm, self.epsilon)

    def heads_of(self, layer: _Layer, qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, T, H, D], keys and values [B, T, G, D] of a packed projection; q and k normed and rotated.

        Queries and keys are worked on together: half as many small operations.
        """
        parts = qkv.view(*qkv.shape[:-1], self.heads + 2 * self.groups, self.head_size)
        qk, v = torch.split(parts, [self.heads + self.groups, self.groups], dim=-2)
        if layer.qk_norm is not None:
            qk = rms_norm(qk, layer.qk_norm, self.epsilon)
        first, second = qk.chunk(2, -1)
        # Rotary position embedding (Su et al. 2021) in the half-split layout; the sign is in the sine's first half.
        qk = (qk * cos).addcmul_(torch.cat([second, first], -1), sin)
        q, k = torch.split(qk, [self.heads, self.groups], dim=-2)
        return q, k, v

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine [B, T, 1, D] of the rotary embedding at positions [B, T]; half of the sine negated."""
        angle = positions[..., None].float() * self._inverse_frequency  # [B, T, D/2]
        cos, sin = angle.cos() * self._rope_scale, angle.sin() * self._rope_scale
        dtype = self.embedding.dtype
        both = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
        return both[0][:, :, None, :].to(dtype), both[1][:, :, None, :].to(dtype)

    def attention_bias(self, blocked: Tensor, new: int) -> Tensor:
        """[B, 1, T, L + T]: 0 where a new token may attend, the lowest number elsewhere; once for each of a group's
        query heads where those are folded.

        A padding token may attend to itself, so that no row of the softmax is empty.
        """
        length = blocked.shape[1]
        hidden = blocked[:, None, :]
        if new > 1:
            later = torch.ones(new, length, dtype=torch.bool, device=blocked.device).triu(length - new + 1)
            itself = torch.eye(length, dtype=torch.bool, device=blocked.device)[length - new :]
            hidden = (hidden & ~itself) | later
        bias = torch.zeros(hidden.shape, dtype=self.embedding.dtype, device=blocked.device)
        bias = bias.masked_fill_(hidden, torch.finfo(self.embedding.dtype).min)[:, None]
        return bias.repeat(1, 1, self.heads // self.groups, 1) if self.folds and new > 1 else bias

    @property
    def folds(self) -> bool:
        """Whether the query heads of a group are attended for as if they were tokens.

        PyTorch's fused kernels for CUDA take no mask together with grouped queries: the one that is taken instead
        copies keys and values for each query head, in fp32, and writes all scores down.
        """
        return self.groups != self.heads and self.embedding.device.type != "cpu"

    def attend_in(self, cache: Any, index: int, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """What queries [B, T, H, D] of new tokens take from all tokens, once the new keys and values have joined."""
        keys, values = cache.hold(index, k, v)
        return self.attend(q.transpose(1, 2), keys, values, bias).transpose(1, 2)

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """What queries [B, H, T, D] take from keys and values [B, G, L, D]; `bias` is `attention_bias`'s."""
        # The heads of a group read the same keys: as tokens they read them once, which pays where there is one token.
        if not self.folds and q.shape[2] > 1:
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=bias, enable_gqa=self.groups != self.heads)
        rows, heads, new, size = q.shape
        q = q.reshape(rows, self.groups, heads // self.groups * new, size)
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=bias).view(rows, heads, new, size)


class PackedDecoder(FlatDecoder):
    """A decoder's weights, packed for inference. `refresh` reads them again from the model.

    Args:
        model: a causal language model of a covered family, or the PEFT model around it; with adapters, their
            update is merged into the copy held here (the model itself is left alone).
    """

    def __init__(self, model: nn.Module) -> None:
        inner = inner_model(model)
        if not supports(inner):
            raise ValueError(f"{type(inner).__name__} is not a plain Llama-style decoder")
        super().__init__(model)

    def _project(self, layers: Sequence[Any]) -> Projection:
        return pack(layers)
