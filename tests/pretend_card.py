"""A pretended graphics card, so that the loop can be run as on a real one where there is none.

A `CardTensor` says of itself that it lies on `cuda:0`. Its numbers are in the computer's memory, each operation is done
there, and so gives what it gives on a CPU. What a real card refuses is refused: an operation between a tensor of the
card and one of the computer, apart from a single number (0-dim) where CUDA takes one, an index of `x[index]`, and
copies. What makes a program wait for a card is counted in `Card.waits`.

    with pretended() as card:
        loaded = load(folder)         # on "cuda:0", for torch.cuda.is_available() says yes
        ...
        card.waits                    # {"_local_scalar_dense": 3, ...}

It knows nothing of speed, of memory, or of the types and shapes for which CUDA has no kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import safetensors.torch
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("cuda", 0)
_aten: Any = torch.ops.aten

# What takes one number (0-dim) of the computer's beside tensors of the card, apart from pointwise operations.
_TAKES_A_NUMBER = {"masked_fill", "masked_fill_", "fill_", "index_put", "index_put_", "index_fill_", "_foreach_mul_"}
_COPIES = {"copy_", "_copy_from", "_foreach_copy_"}
_READS = {"_local_scalar_dense", "equal", "is_nonzero", "item"}
# What has as many results as the numbers say, which therefore have to be looked at.
_COUNTS = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount"}


class MixedDevices(RuntimeError):
    """What CUDA says where tensors of two devices meet."""


class CardTensor(Tensor):
    """A tensor that says that it lies on a card; `held` is where it does."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> CardTensor:
        assert type(held) is Tensor and held.device.type in ("cpu", "meta"), type(held)
        made: CardTensor = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    device = property(lambda self: DEVICE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    # What makes `Module.to` exchange whole parameters.
    def __tensor_flatten__(self) -> Any:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(parts: Any, meta: Any, size: Any, stride: Any) -> CardTensor:
        return CardTensor(parts["held"])

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, new: Tensor) -> None:
        if not isinstance(new, CardTensor) or new.shape != self.shape or new.dtype != self.dtype:
            raise MixedDevices(f"data of another place, shape or type: {new.device} {new.shape} {new.dtype}")
        self.held = new.held

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def tolist(self) -> Any:
        if _now is not None:
            _now.waits["tolist"] += 1
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Card({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copied = CardTensor(self.held.clone())
            if isinstance(self, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, self.requires_grad)
            memo[id(self)] = copied
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        flat, _ = tree_flatten((args, kwargs))
        tensors = [a for a in flat if isinstance(a, Tensor)]
        _check(func, name, args, tensors)
        _count(name, args, tensors)
        known = {id(t.held if isinstance(t, CardTensor) else t): t for t in tensors}
        inner_args, inner_kwargs = tree_map_only(CardTensor, lambda t: t.held, (args, kwargs))
        if isinstance(inner_kwargs.get("device"), torch.device):
            inner_kwargs["device"] = torch.device("cpu")
        found = func(*inner_args, **inner_kwargs)

        def outside(t: Tensor) -> Tensor:
            # What was changed in place comes back as what it was.
            return known[id(t)] if id(t) in known else CardTensor(t)

        return tree_map_only(Tensor, outside, found)


def _check(func: Any, name: str, args: Any, tensors: list[Tensor]) -> None:
    """Raise where CUDA would: a tensor of the computer's among those of the card."""
    strangers = [t for t in tensors if not isinstance(t, CardTensor)]
    if not strangers or name in _COPIES:
        return
    if name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"):
        # An index may lie in the computer's memory, what it is an index of may not.
        indices = {id(i) for i in args[1] if i is not None}
        strangers = [t for t in strangers if id(t) not in indices]
    numbers = torch.Tag.pointwise in func.tags or name in _TAKES_A_NUMBER
    if numbers and (not args or not isinstance(args[0], Tensor) or isinstance(args[0], CardTensor) or name[-1] != "_"):
        strangers = [t for t in strangers if t.dim() > 0]
    if strangers:
        raise MixedDevices(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"(in {name}, a CPU tensor of shape {tuple(strangers[0].shape)})"
        )


def _count(name: str, args: Any, tensors: list[Tensor]) -> None:
    """Note what has to wait until the card has done all that it was told before."""
    if _now is None:
        return
    waits = name in _READS or name in _COUNTS
    if name == "repeat_interleave":
        waits = any(isinstance(a, Tensor) for a in args)
    elif name in _COPIES:
        waits = any(not isinstance(t, CardTensor) for t in tensors)
    elif name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        # A mask is turned into positions, as many as there are; an index of the computer's is copied.
        waits = any(i is not None and (i.dtype == torch.bool or not isinstance(i, CardTensor)) for i in args[1])
    if waits:
        _now.waits[name] += 1


class Card:
    """What is known of the pretended card.

    Attributes:
        waits: how often the program had to wait for it, by the operation that made it.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()

    @property
    def waited(self) -> int:
        return sum(self.waits.values())


_now: Card | None = None


def _on_card(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def to_card(tensor: Tensor) -> Tensor:
    """The tensor's numbers on the card; what a program does there waits for the copy."""
    if isinstance(tensor, CardTensor):
        return tensor
    if _now is not None:
        _now.waits["to the card"] += 1
    if torch.is_grad_enabled() and tensor.requires_grad and not tensor.is_leaf:
        raise NotImplementedError("a copy to the card inside a differentiated computation")
    with torch.no_grad():
        made = CardTensor(tensor.detach().clone())
    return made.requires_grad_(tensor.requires_grad)


def _to_computer(tensor: CardTensor) -> Tensor:
    if _now is not None:
        _now.waits["to the computer"] += 1
    if torch.is_grad_enabled() and tensor.requires_grad:
        raise NotImplementedError("a copy from the card inside a differentiated computation")
    return tensor.held.clone()


class _Places(TorchFunctionMode):
    """Takes the card's name where a tensor is made or moved."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("to", "cuda", "cpu", "type_as", "pin_memory") and args and isinstance(args[0], Tensor):
            return self._moved(name, func, args, kwargs)
        if name in ("new_tensor", "new") and isinstance(args[0], CardTensor) and kwargs.get("device") is None:
            return to_card(func(args[0].held, *args[1:], **kwargs))
        device = kwargs.get("device")
        if device is None:
            return func(*args, **kwargs)
        here = _on_card(device)
        kwargs["device"] = "cpu" if here else device
        if here and kwargs.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        source = args[0] if args and isinstance(args[0], CardTensor) else None
        if source is not None and not here:  # zeros_like(card, device="cpu") and its like
            return func(source.held, *args[1:], **kwargs)
        found = func(*args, **kwargs)
        if not here or isinstance(found, CardTensor) or not isinstance(found, Tensor):
            return found
        if name in ("tensor", "as_tensor", "asarray"):
            return to_card(found)
        return CardTensor(found.detach()).requires_grad_(found.requires_grad)  # made there, not copied

    def _moved(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        tensor, rest = args[0], list(args[1:])
        if name == "pin_memory":
            return tensor
        if name == "type_as":
            rest, name = [args[1]], "to"
        if name == "cuda":
            return to_card(tensor)
        if name == "cpu":
            return _to_computer(tensor) if isinstance(tensor, CardTensor) else tensor
        other = rest[0] if rest and isinstance(rest[0], Tensor) else kwargs.pop("other", None)
        device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        if other is not None:
            device, dtype, rest = other.device, other.dtype, rest[1:]
        for value in rest:
            if isinstance(value, torch.dtype):
                dtype = value
            elif isinstance(value, (torch.device, str, int)) and not isinstance(value, bool):
                device = value
        kwargs.pop("non_blocking", None)
        if device is not None:
            moving = isinstance(tensor, CardTensor) != _on_card(device)
            if moving:
                # PyTorch changes the type where the numbers are.
                tensor = to_card(tensor) if _on_card(device) else _to_computer(tensor)
        return tensor if dtype is None or dtype == tensor.dtype else Tensor.to(tensor, dtype=dtype, **kwargs)


class _File:
    """A safetensors file whose tensors go to the card as they are read."""

    def __init__(self, name: Any, framework: str, device: Any = "cpu", **more: Any) -> None:
        self._file, self._device = safetensors.safe_open(name, framework, device="cpu", **more), device

    def __enter__(self) -> _File:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)

    def get_tensors(self) -> dict[str, Tensor]:
        found = self._file.get_tensors()
        return {k: to_card(v) for k, v in found.items()} if _on_card(self._device) else found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def pretended() -> Iterator[Card]:
    """A card while the block runs, in this thread."""
    global _now
    said: dict[str, Any] = {
        "is_available": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "memory_allocated": lambda device=None: 0,
        "memory_reserved": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "mem_get_info": lambda device=None: (20 * 10**9, 24 * 10**9),
        "get_device_name": lambda device=None: "Pretended card",
        "get_device_capability": lambda device=None: (8, 9),
    }
    with ExitStack() as stack:
        for name, does in said.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, does))
        stack.enter_context(mock.patch.object(safetensors.torch, "safe_open", _File))
        stack.enter_context(_Places())
        _now = Card()
        try:
            yield _now
        finally:
            _now = None
