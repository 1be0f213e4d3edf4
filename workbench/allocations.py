"""How much memory a piece of code takes at its highest moment, as the allocator counts it; and whether it ran out.

On a GPU PyTorch keeps the count itself. On a CPU the profiler sees every allocation and every release, those inside
an operation too, which a tracker of tensors would miss.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

_FORGOTTEN = "the peak is forgotten"
_WORDS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def peak_of(run: Callable[[], Any]) -> int:
    """Most bytes alive at once while `run` runs, or since it last called `forget_peak`, over those alive before."""
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events: Any = seen.profiler.kineto_results.events()
    names = {"[memory]", _FORGOTTEN}
    changes = sorted((e.start_ns(), index, e.name(), e.nbytes()) for index, e in enumerate(events) if e.name() in names)
    alive = most = 0
    for _, _, name, size in changes:
        alive += size if name == "[memory]" else 0
        most = alive if name == _FORGOTTEN else max(most, alive)
    return most


def forget_peak() -> None:
    """Let the peak that `peak_of` is looking for begin here: what is alive now counts, what was before does not."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return
    with record_function(_FORGOTTEN):
        pass


def free_on(device: torch.device) -> float | None:
    """Bytes of a card that PyTorch may still fill, what it keeps back from earlier among them; None on a CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, on the GPU or on the computer."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def in_brief(error: BaseException) -> str:
    """The first line of what an error says, to be quoted in a sentence."""
    said = str(error)
    return said.splitlines()[0][:200] if said else type(error).__name__


def free_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        # A capture of a CUDA graph that broke off leaves some releases of PyTorch unable to: then it keeps what it has.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
