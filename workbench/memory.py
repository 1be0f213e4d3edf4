"""How much memory a model takes, by arithmetic on its config.json. Nothing is loaded, torch is not needed.

    shape = read_shape(json.loads(Path("config.json").read_text()))
    estimate(shape, "bf16", Settings()).teaching    # bytes while it is taught

A few constants say what this program keeps; `tests/test_memory.py` holds them against what autograd really keeps.
GB are 10^9 bytes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from workbench.errors import InputError
from workbench.execution import Execution, answers_in_a_row
from workbench.settings import Settings

BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "8-bit": 1.0, "4-bit": 0.52}
"""Bytes of one weight; 4-bit is NF4 with doubly quantised scales. Both it and 8-bit are of the linear layers only, and
not of experts: transformers holds those of a layer in one block, which bitsandbytes leaves in 16 bits."""

QUANTISED = ("8-bit", "4-bit")

CHUNK_BYTES = 240_000_000
"""The loss sends so many tokens at a time through the head that all vectors over the vocabulary stay under this."""

LOSS_VECTORS = {"forward": 4.0, "reverse": 4.0, "jsd": 6.0}
"""Vectors of the vocabulary in fp32 that are alive at a token of a chunk, by divergence; in 16 bits half more."""

MOST_VECTORS = 7
"""The same under any setting: what the size of a chunk is worked out with."""

SAMPLING_BYTES = 24
"""Bytes for each word of the vocabulary while a token is drawn: logits, probabilities, their running sum."""

PROGRAM = 700_000_000
"""Python, PyTorch and transformers themselves, and on a GPU its context."""

PACKED_UP_TO = 1_000_000_000
"""Llama-style models of up to so many bytes are copied, once for the base and once for the student, to run faster."""

ROWS = 100
"""Rows to teach where nobody has said how many."""

_PACKED_FAMILIES = ("qwen2", "qwen3", "llama")
_UNGATED = ("gpt2", "opt", "gpt_neox", "gptj", "phi", "bloom", "falcon", "starcoder2")


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides a model's size.

    Attributes:
        queries, keys: width of all query heads, and of all key heads.
        inner: width of the MLP (of one expert, where there are several).
        matrices: of an MLP: 3 with a gate, 2 without.
        used: how many experts a token goes through.
        stored: bytes of a weight in the files.
    """

    family: str
    layers: int
    hidden: int
    queries: int
    keys: int
    inner: int
    matrices: int
    vocabulary: int
    tied: bool
    experts: int = 1
    used: int = 1
    stored: float = 2.0

    @property
    def linear(self) -> int:
        """Weights of the linear layers, the head left out."""
        attention = self.hidden * (2 * self.queries + 2 * self.keys)
        return self.layers * (attention + self.experts * self.matrices * self.hidden * self.inner)

    @property
    def in_experts(self) -> int:
        """Those of the linear layers' weights that are in experts; 0 where there is one MLP for all tokens."""
        return self.layers * self.experts * self.matrices * self.hidden * self.inner if self.experts > 1 else 0

    @property
    def other(self) -> int:
        """Weights of the embedding, of the head if it is another matrix, and of the norms."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        """All weights, within a percent for the usual architectures."""
        return self.linear + self.other

    def adapter(self, rank: int) -> int:
        """Weights of a LoRA adapter on all linear layers; experts are left out, as PEFT leaves them out."""
        ends = 2 * (self.hidden + self.queries) + 2 * (self.hidden + self.keys)
        if self.experts == 1:
            ends += self.matrices * (self.hidden + self.inner)
        return self.layers * rank * ends


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The shape that a config.json describes.

    Raises:
        InputError: it does not describe a language model of a known kind.
    """
    text = config.get("text_config")
    values = {**config, **text} if isinstance(text, Mapping) else dict(config)

    def number(*names: str, default: int | None = None) -> int:
        for name in names:
            value = values.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        if default is not None:
            return default
        raise InputError(
            f"This config.json does not say {names[0]}, so the model's size cannot be worked out.",
            "It may not be a language model. Loading it says more.",
        )

    hidden = number("hidden_size", "n_embd", "d_model")
    heads = number("num_attention_heads", "n_head", "num_heads")
    head = number("head_dim", default=max(1, hidden // heads))
    family = str(values.get("model_type", ""))
    experts = number("num_experts", "num_local_experts", "n_routed_experts", default=1)
    inner = number("intermediate_size", "n_inner", "ffn_dim", "d_ff", default=4 * hidden)
    return Shape(
        family=family,
        layers=number("num_hidden_layers", "n_layer", "num_layers"),
        hidden=hidden,
        queries=heads * head,
        keys=number("num_key_value_heads", default=heads) * head,
        inner=number("moe_intermediate_size", default=inner) if experts > 1 else inner,
        matrices=2 if family in _UNGATED else 3,
        vocabulary=number("vocab_size"),
        # transformers ties them unless the file says otherwise, and leaves out of the file what is so by default.
        tied=bool(values.get("tie_word_embeddings", True)),
        experts=experts,
        used=number("num_experts_per_tok", default=1),
        stored=4.0 if str(values.get("dtype", values.get("torch_dtype", ""))) == "float32" else 2.0,
    )


@dataclass(frozen=True, slots=True)
class Part:
    """One line of an estimate: what, how many bytes, and how that number comes about."""

    name: str
    size: float
    why: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model needs, in bytes.

    Attributes:
        parts: the lines, in the order in which they are taken.
        standing: what is there whatever is done: weights, copies, the program.
        asking: to answer questions.
        teaching: at the highest moment of a step.
    """

    parts: tuple[Part, ...]
    standing: float
    asking: float
    teaching: float


def estimate(
    shape: Shape,
    dtype: str,
    settings: Settings,
    *,
    question: int = 64,
    shown: int = 256,
    rows: int = ROWS,
    work: Execution = Execution(),
    pack: bool = True,
) -> Estimate:
    """What it takes to ask and to teach a model of this shape.

    Args:
        dtype: one of `BYTES`.
        question, shown: tokens of a usual question, and of the same with its demonstration.
        rows: to teach.
        work: how many answers are worked on at a time.
        pack: whether small models are copied to run faster.
    """
    wide = 2.0 if dtype in QUANTISED else BYTES[dtype]
    experts = shape.in_experts if dtype in QUANTISED else 0
    weights = (shape.linear - experts) * BYTES[dtype] + (shape.other + experts) * wide
    batch, longest, rank = settings.optim.batch, settings.rollout.max_new_tokens, settings.lora.rank
    micro, at_once = work.micro_batch or batch, work.at_once or batch
    packed = pack and weights <= PACKED_UP_TO and shape.family in _PACKED_FAMILIES and dtype not in QUANTISED
    merged = wide == 4  # in half precision no adapter is merged into a copy
    copies = (1 + merged) * shape.linear * wide if packed else 0.0
    adapter = shape.adapter(rank)
    per_token = shape.layers * 2 * shape.keys * wide
    passing = wide * (3 * shape.inner * shape.used + 4 * shape.hidden)  # of a token in one layer, without gradients
    drawn = at_once * shape.vocabulary * SAMPLING_BYTES
    # A prompt is read once for all of its answers in a pass.
    each = settings.rollout.rollouts
    share = min(each, micro) if each % micro == 0 or micro % each == 0 else 1
    asked = micro // share
    sampling = at_once * (question + longest) * per_token + max(drawn, max(1, at_once // each) * question * passing)
    teaching = micro * (shown + longest) * per_token + asked * shown * passing
    stays = settings.teacher.teacher in ("base", "original")
    prefixes = min(work.prefix_bytes, rows * shown * per_token) if stays else 0.0
    if work.checkpointing:  # some answers lie behind the prompt in one row, whose mask is a square
        share = answers_in_a_row(share, longest) if shape.family in _PACKED_FAMILIES else 1
    prompts, beside = micro // share, 0.0
    if share > 1 and work.checkpointing:
        beside = prompts * (question + share * longest) ** 2 * (wide + 2)
    elif share > 1 and not (packed and merged):
        beside = micro * question * shape.layers * copied_per_token(shape, wide)
    read = prompts * question + micro * longest
    whole = kept_per_token(shape, wide, rank)
    kept = wide * shape.hidden if work.checkpointing else whole
    activations = read * (shape.layers * kept + (whole if work.checkpointing else 0.0)) + beside
    chunk = min(micro * longest, max(1.0, CHUNK_BYTES // (MOST_VECTORS * 4 * shape.vocabulary)))
    vectors = LOSS_VECTORS[settings.divergence.divergence] + (0.0 if wide == 4 else 0.5)
    loss = vectors * 4 * shape.vocabulary * chunk + 3 * micro * longest * shape.hidden * wide
    parts = [
        Part(
            "Weights",
            weights,
            f"{count(shape.parameters)} weights x {BYTES[dtype]:g} bytes ({dtype})"
            + (f", but {count(experts)} in experts x {wide:g} bytes: they are not quantised" if experts else ""),
        ),
        Part("Copies to run faster", copies, "small models are copied for the base" + " and for the student" * merged),
        Part("Program", PROGRAM, "Python, PyTorch and transformers themselves"),
        Part(
            f"Adapter, rank {rank}",
            16.0 * adapter,
            f"{count(adapter)} weights x 4 bytes (fp32) x 4: the weights, their gradients, AdamW's two averages",
        ),
        Part(
            "Teacher's prompts",
            prefixes,
            f"keys and values of {rows} prompts x {shown} tokens, {per_token / 1000:,.0f} kB a token, as many as fit "
            f"into {gigabytes(work.prefix_bytes)}: kept from step to step, since this teacher does not change",
        ),
        Part(
            "Cache of keys and values",
            max(sampling, teaching),
            f"{at_once} answers x ({question} + {longest}) tokens while sampling ({gigabytes(sampling)}), or "
            f"{micro} x ({shown} + {longest}) as the teacher ({gigabytes(teaching)}); "
            f"{per_token / 1000:,.0f} kB a token, free again before the next two are needed",
        ),
        Part(
            "Activations",
            activations,
            f"{read:,} tokens x {shape.layers} layers x {kept / 1000:,.0f} kB, kept for the gradients"
            + (f"; one layer at a time {whole / 1000:,.0f} kB, computed again" if work.checkpointing else ""),
        ),
        Part(
            "Loss",
            loss,
            f"{chunk:,.0f} tokens at a time x {shape.vocabulary:,} words of the vocabulary x 4 bytes x {vectors:g} "
            f"vectors, and 3 hidden states of each token",
        ),
    ]
    fixed = weights + copies + PROGRAM
    return Estimate(
        tuple(p for p in parts if p.size > 0),
        fixed,
        fixed + 3 * (shown + longest) * per_token,
        fixed + 16.0 * adapter + prefixes + max(sampling, teaching, activations + loss),
    )


def question_bytes(shape: Shape, dtype: str, settings: Settings, asked: int = 256) -> float:
    """Bytes that each of many questions of `asked` tokens takes while they are answered together.

    The highest moment is where the prompts are read, or where a token is drawn. Rows that have ended leave one layer
    after the other, which takes less.
    """
    wide = 2.0 if dtype in QUANTISED else BYTES[dtype]
    cache = (asked + settings.rollout.max_new_tokens) * shape.layers * 2 * shape.keys * wide
    drawn = shape.vocabulary * SAMPLING_BYTES
    reading = asked * wide * (6 * shape.inner * shape.used + 4 * shape.hidden + 2 * shape.queries)
    return cache + max(reading, drawn)


def kept_per_token(shape: Shape, wide: float, rank: int) -> float:
    """Bytes that one layer keeps of one token for the backward pass, at `wide` bytes a number.

    In 16 bits the norms and the adapter work in fp32, which keeps copies of its own.
    """
    inner = shape.inner * shape.used
    if wide == 4:
        return 16 * shape.hidden + 16 * inner + 12.5 * shape.queries + 12.5 * shape.keys + 28 * rank
    return 28 * shape.hidden + 10 * inner + 12.5 * shape.queries + 8 * shape.keys + 28 * rank


def copied_per_token(shape: Shape, wide: float) -> float:
    """Bytes that one layer keeps of one token of a prompt for each of the answers that share it.

    Its keys and values joined with the answer's, and these again for every query head: PyTorch's attention over a
    mask takes no groups.
    """
    return 2 * wide * (shape.keys + (shape.queries if shape.queries > shape.keys else 0))


@dataclass(frozen=True, slots=True)
class Machine:
    """The memory that a model would be put in: the GPU's where there is one, the computer's otherwise."""

    name: str
    total: float
    free: float
    gpu: bool

    @property
    def auto(self) -> str:
        """The precision that `auto` stands for here."""
        return "bf16" if self.gpu else "fp32"


def machine() -> Machine:
    """This machine, as it is now."""
    return (_gpu() if _has_gpu() else None) or computer()


def computer() -> Machine:
    """The computer's own memory as it is now, whatever card there is."""
    import psutil

    memory = psutil.virtual_memory()
    return Machine("this computer's memory", float(memory.total), float(memory.available), False)


@cache
def _has_gpu() -> bool:
    return _gpu() is not None


def _gpu() -> Machine | None:
    """The first NVIDIA GPU, as its driver reports it."""
    ask = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=5, check=True).stdout
        name, total, free = (part.strip() for part in said.splitlines()[0].rsplit(",", 2))
        return Machine(f"the GPU ({name})", float(total) * 2**20, float(free) * 2**20, True)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def gigabytes(size: float) -> str:
    """Bytes as a person reads them: 0.010 GB, 0.42 GB, 7.9 GB, 61 GB."""
    value = size / 1e9
    digits = 0 if value >= 20 else 1 if value >= 1 else 2 if value >= 0.1 else 3
    return f"{value:.{digits}f} GB"


def count(number: float) -> str:
    """A number of weights: 2.4 million, 4.0 billion."""
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number:,.0f}"
