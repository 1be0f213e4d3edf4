"""Models whose linear layers are stored in 4 or 8 bits, by bitsandbytes, and what keeps their arithmetic right.

4-bit is NF4 with double quantisation (Dettmers et al. 2023, arXiv 2305.14314): about 0.52 bytes a weight. Embedding,
head and norms stay as they are. Nothing is ever added into such weights: rounding them again after each change would
move the model. What a run taught lies beside them instead (`lay_beside`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from workbench.errors import InputError
from workbench.settings import PRECISIONS as PRECISIONS

PLAIN = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions in which every weight is a number of its own."""

QUANTISED = ("4-bit", "8-bit")

CPU_NOTE = (
    "{} on a CPU is exact enough to teach with, and slow: each pass turns the weights back into numbers first. "
    "bitsandbytes has a faster way there, which loses most of the gradient without an error; it is kept off."
)
"""What a person reads who asks for a quantised model without a GPU."""

BLOCKS_NOTE = (
    "{} of its {} weights stay in {} bits, {} of them: experts are held in one block for each layer, which "
    "bitsandbytes does not quantise."
)
"""What a person reads whose quantised model is far larger than its precision says."""

# What reads weights that somebody else has quantised: the package, and its name on PyPI.
_READERS = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "gptq": ("gptqmodel", "gptqmodel"),
    "awq": ("gptqmodel", "gptqmodel"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
    "hqq": ("hqq", "hqq"),
    "torchao": ("torchao", "torchao"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "aqlm": ("aqlm", "aqlm"),
    "eetq": ("eetq", "eetq"),
}
_ON_GPU_ONLY = ("gptq", "awq", "fp8", "fbgemm_fp8", "mxfp4", "aqlm", "eetq")


@dataclass(frozen=True, slots=True)
class Precision:
    """How weights are held and computed with.

    Attributes:
        name: one of `PRECISIONS` without `auto`, or the method of a checkpoint that came quantised.
        compute: the type of activations and of all weights that are not quantised.
        quantise: whether bitsandbytes quantises the weights as they are read.
    """

    name: str
    compute: torch.dtype
    quantise: bool = False

    def config(self) -> Any:
        """What transformers is told; None where nothing is quantised on reading."""
        if not self.quantise:
            return None
        from transformers import BitsAndBytesConfig

        if self.name == "8-bit":
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            # Its default is fp32, for which bitsandbytes has no fast kernel, and does not say so.
            bnb_4bit_compute_dtype=self.compute,
        )


def choose(asked: str, stored: Mapping[str, Any] | None, device: torch.device) -> Precision:
    """The precision to load in.

    Args:
        asked: one of `PRECISIONS`, or what `stored` is quantised to.
        stored: config.json's `quantization_config` of a checkpoint that came quantised.

    Raises:
        InputError: the name is unknown, a package is missing, or the checkpoint is quantised otherwise.
    """
    compute = torch.float32 if device.type == "cpu" else _half()
    if stored is not None:
        return _as_stored(asked, stored, device, compute)
    if asked == "auto":
        return Precision(next(n for n, d in PLAIN.items() if d == compute), compute)
    if asked in PLAIN:
        return Precision(asked, PLAIN[asked])
    if asked not in QUANTISED:
        raise InputError(f"Unknown precision {asked!r}.", f"Choose one of {', '.join(PRECISIONS)}.")
    _need("bitsandbytes", asked)
    return Precision(asked, compute, quantise=True)


def _as_stored(asked: str, stored: Mapping[str, Any], device: torch.device, compute: torch.dtype) -> Precision:
    method = str(stored.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in stored else "an unknown method"))
    name = method
    if method == "bitsandbytes":
        name = "4-bit" if stored.get("load_in_4bit") or stored.get("_load_in_4bit") else "8-bit"
    if asked not in ("auto", name):
        raise InputError(
            f"This model's files are quantised already ({name}); they cannot be read as {asked}.",
            "Leave the precision at auto, or choose the model's unquantised version.",
        )
    _need(method, name)
    if method in _ON_GPU_ONLY and device.type == "cpu":
        raise InputError(
            f"This model's files are quantised by {method}, which computes on a GPU only, and none was found.",
            "Choose the model's unquantised version, with precision 4-bit where memory is short.",
        )
    return Precision(name, compute)


def _need(method: str, name: str) -> None:
    if method not in _READERS:
        return  # transformers reads it by itself, or says what it lacks
    module, package = _READERS[method]
    if importlib.util.find_spec(module.split(".")[0]) is None:
        advice = 'pip install "sdft-workbench[gpu]"' if method == "bitsandbytes" else f"pip install {package}"
        raise InputError(f"Precision {name} needs the package {package}, which is not installed.", f"{advice}.")


def _half() -> torch.dtype:
    """bf16, or fp16 on cards that can only imitate bf16 (Turing and older)."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that bitsandbytes holds, by name: its Linear4bit and Linear8bitLt, and what derives from them."""
    for name, module in model.named_modules():
        if _kind(module):
            yield name, module


def is_quantised(model: nn.Module) -> bool:
    """Whether any layer of the model is held in 4 or 8 bits by bitsandbytes."""
    return any(True for _ in layers(model))


def _kind(module: nn.Module) -> str | None:
    for base in type(module).__mro__:
        if base.__module__.startswith("bitsandbytes.nn") and base.__name__ in ("Linear4bit", "Linear8bitLt"):
            return base.__name__
    return None


@torch.no_grad()
def guard(model: nn.Module, compute: torch.dtype | None = None) -> None:
    """Make the layers of a quantised model safe to differentiate through, whatever was done with them before.

    On processors with AVX512-BF16, bitsandbytes (0.49 to 0.50.2 at least) packs a 4-bit layer anew at its first pass
    in evaluation mode on a CPU, in place, and from then on takes a product that autograd cannot see through: LoRA
    gradients below that layer come out at a fraction of their length, without an error. Our models are always in
    evaluation mode. Each layer is told that the processor lacks the instruction, and is unpacked if it was packed.

    An 8-bit layer keeps its input for the gradient of its weights, which are frozen; it is let go.

    Args:
        compute: the type to compute in; None leaves it.
    """
    for _, layer in layers(model):
        if _kind(layer) == "Linear8bitLt":
            if layer.weight.CB is not None:
                layer.init_8bit_state()  # it is moved from the weight here, so that views can share it
            if _let_go not in layer._forward_hooks.values():
                layer.register_forward_hook(_let_go)
            continue
        layer.support_avx512bf16_for_cpu = False
        state = layer.weight.quant_state
        if getattr(state, "packing_format_for_cpu", False):
            from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse as unpack

            layer.weight.data, layer.weight.quant_state = unpack(layer.weight.data, state)
            layer.quant_state = layer.weight.quant_state
        if compute is not None:
            layer.compute_dtype, layer.compute_type_is_set = compute, True


def _let_go(layer: Any, given: Any, result: Tensor) -> None:
    """Drop what bitsandbytes' product holds past autograd's own storage, where checkpointing would not find it."""
    if type(result.grad_fn).__name__ == "MatMul8bitLtBackward":
        grad_fn: Any = result.grad_fn
        grad_fn.tensors = (None, None, None)


def shared_parts(model: nn.Module) -> dict[int, Any]:
    """What a second tree of modules over the same weights must share besides parameters: scales and codes."""
    parts: list[Any] = []
    for _, layer in layers(model):
        if _kind(layer) == "Linear8bitLt":
            parts += [layer.state.CB, layer.state.SCB]
        else:
            parts += [layer.quant_state, layer.weight.quant_state]
    return {id(part): part for part in parts if part is not None}


def numbers(parameter: Tensor) -> int:
    """How many weights a parameter stands for; a 4-bit one holds two in each byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def in_blocks(model: nn.Module) -> int:
    """How many weights of experts are numbers of their own still, though the model is quantised.

    transformers 5 holds the experts of a layer as one block [experts, out, in], and bitsandbytes takes linear layers.
    """
    own = {id(p): p for m in model.modules() if not isinstance(m, _ConvNd) for p in m.parameters(recurse=False)}
    return sum(p.numel() for p in own.values() if p.dim() == 3 and p.is_floating_point())


def written_out(model: Any) -> Any:
    """A quantised model with plain weights: each the number that its bits stand for, in the type computed with.

    So an adapter can be added to the numbers it was taught on, without rounding the sum to 4 bits. The model is used
    up. On a card it is done in the computer's memory: written out, it may not fit where it was taught.
    """
    if getattr(model, "is_loaded_in_4bit", False):
        model = model.to("cpu")
    return model.dequantize().requires_grad_(False).eval()


class _Beside:
    """A quantised layer with an earlier adapter, frozen, beside its weights: W x + scale * B (A x)."""

    before_a: Tensor
    before_b: Tensor
    before_scale: float

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = super().forward(x)  # type: ignore[misc]
        _let_go(self, x, result)  # the hook sees the sum below alone
        low = F.linear(x.to(self.before_a.dtype), self.before_a)
        return result + (self.before_scale * F.linear(low, self.before_b)).to(result.dtype)


@cache
def _beside(kind: Any) -> type:
    return type(f"Taught{kind.__name__}", (_Beside, kind), {})


def lay_beside(model: nn.Module, factors: Mapping[str, tuple[Tensor, Tensor]], scale: float) -> None:
    """Give quantised layers the low-rank update that an adapter would merge into plain ones, in place.

    Args:
        factors: A [r, in] and B [out, r] by the layer's name in the model.
        scale: alpha / r.

    Raises:
        InputError: the adapter has a layer that is not quantised, or that has an earlier adapter beside it already.
    """
    known = dict(layers(model))
    for name, (a, b) in factors.items():
        layer = known.get(name)
        if layer is None or isinstance(layer, _Beside):
            raise InputError(
                f"The earlier adapter changes {name}, which is not a quantised layer of this model.",
                "Go on from that run in bf16: --precision bf16.",
            )
        device = layer.weight.device
        layer.register_buffer("before_a", a.to(device, torch.float32), persistent=False)
        layer.register_buffer("before_b", b.to(device, torch.float32), persistent=False)
        layer.before_scale = scale
        kind: Any = type(layer)
        layer.__class__ = _beside(kind)
