"""How a model can be taught in the memory there is: how many answers at a time, and what is computed again.

Arithmetic on the config alone (`memory.py`); nothing is loaded, torch is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from workbench.errors import InputError
from workbench.execution import QUESTIONS, Execution
from workbench.memory import Estimate, Shape, estimate, gigabytes, question_bytes
from workbench.settings import Settings

KNOWN = {
    "Qwen/Qwen3-4B-Instruct-2507": {
        "model_type": "qwen3",
        "hidden_size": 2560,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 9728,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }
}
"""Numbers of published config.json files (huggingface.co/Qwen/Qwen3-4B-Instruct-2507), for use without a network."""

SPARE = 0.05
"""Share of the memory that is left alone: what the allocator cannot use, and what else the card shows."""

ROUND = 100_000_000
"""Bytes that kept prompts are given a whole number of, so that one run's plan is the next one's."""


LEAST = Execution(micro_batch=1, at_once=1, checkpointing=True, prefix_bytes=0)
"""The way that takes least memory."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A way that fits: how the steps are carried out, and what that takes."""

    work: Execution
    need: Estimate
    room: float


def fit(
    shape: Shape, dtype: str, settings: Settings, room: float, *, question: int = 64, shown: int = 256
) -> Fit | None:
    """The fastest way to take these steps within `room` bytes; None if there is none.

    All answers at once is fastest. Then fewer at a time, down to a quarter, before activations are computed again,
    which takes a third more computing; then fewer still. Sampling is cut apart from that: as many as fit. Of what is
    left half may keep the prompts of a teacher that does not change; the other half is for questions in between, of
    which as many are answered together as fit beside what stays.
    """

    def needed(work: Execution) -> Estimate:
        return estimate(shape, dtype, settings, question=question, shown=shown, work=work)

    usable = (1 - SPARE) * room
    batch = settings.optim.batch
    sizes = [max(1, batch >> n) for n in range(batch.bit_length())]
    few = [s for s in sizes if 4 * s >= batch]
    for checkpointing, tried in ((False, few), (True, sizes)):
        for micro in tried:
            for at_once in sizes:
                work = Execution(0 if micro == batch else micro, 0 if at_once == batch else at_once, checkpointing, 0)
                left = usable - needed(work).teaching
                if left >= 0:
                    work = replace(work, prefix_bytes=int(left / 2 // ROUND * ROUND))
                    work = replace(work, questions=together(shape, dtype, settings, room, shown=shown, beside=work))
                    return Fit(work, needed(work), room)
    return None


def together(
    shape: Shape, dtype: str, settings: Settings, room: float, *, shown: int = 256, beside: Execution | None = None
) -> int:
    """How many questions can be answered together within `room` bytes: at most `QUESTIONS`, and at least one is tried.

    Args:
        shown: tokens of the longest usual prompt, which is one with its demonstration.
        beside: of the run in which they are asked, whose adapter and kept prompts stay meanwhile; None: no run.
    """
    left = (1 - SPARE) * room - estimate(shape, dtype, settings).standing
    if beside is not None:
        left -= 16.0 * shape.adapter(settings.lora.rank) + beside.prefix_bytes
    return int(max(1, min(QUESTIONS, left // question_bytes(shape, dtype, settings, shown))))


def refusal(
    shape: Shape, dtype: str, settings: Settings, room: float, *, question: int = 64, shown: int = 256
) -> InputError:
    """Why nothing fits, with the arithmetic of the least that would be needed."""
    need = estimate(shape, dtype, settings, question=question, shown=shown, work=LEAST)
    lines = "; ".join(f"{part.name.lower()} {gigabytes(part.size)}" for part in need.parts)
    # Experts stay in 16 bits there.
    smaller = dtype != "4-bit" and shape.in_experts < shape.linear / 2
    less = "in 4-bit its weights take about a quarter of bf16; " if smaller else ""
    return InputError(
        f"It does not fit: even with one answer at a time teaching needs {gigabytes(need.teaching)}, and "
        f"{gigabytes((1 - SPARE) * room)} of {gigabytes(room)} can be used. The parts ({lines}), of which the cache is "
        "free again before activations and loss come.",
        f"Choose less: {less}a smaller --max-new-tokens or --rank, or a smaller model.",
    )
