"""Every setting of a run, as small frozen groups.

The sentence under a field is its help on the command line and its row in docs/settings.md. A field is checked when
its group is made, so that a wrong value is refused before anything is loaded.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from workbench.errors import InputError

POCKET = "pocket"
"""The name of the bundled model."""

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "8-bit", "4-bit")
"""What a model's weights can be loaded as."""


def _setting(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


def _require(holds: bool, name: str, got: object, allowed: str) -> None:
    if isinstance(got, float) and not math.isfinite(got):
        # Infinity is "0 or more" and "above 0", and no setting can be carried out with it.
        holds, allowed = False, f"a finite number, {allowed}"
    if not holds:
        raise _refusal(name, got, allowed)


def _refusal(name: str, got: object, allowed: str) -> InputError:
    flag = "--" + name.replace("_", "-")
    return InputError(f"{flag} is {got!r}; it must be {allowed}.", "What it does is in docs/settings.md.")


_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((float, int), "a number"),
    str: ((str,), "text"),
}


def _require_kinds(group: Any) -> None:
    """Refuse a value that is not among its field's choices, or not of the kind of its default.

    A fraction would pass for "1 or more", and be carried out as some whole number or another.
    """
    for one in fields(group):
        got, choices = getattr(group, one.name), one.metadata["choices"]
        kinds, allowed = _KINDS[type(one.default)]
        if choices:
            right, allowed = got in choices, f"{', '.join(choices[:-1])} or {choices[-1]}"
        else:
            # To Python true and false are whole numbers.
            right = isinstance(got, kinds) and isinstance(got, bool) == (bool in kinds)
        if not right:
            raise _refusal(one.name, got, allowed)


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """The adapter that is taught; the model's own weights stay as they are."""

    rank: int = _setting(16, "LoRA rank: how much the adapter can hold.")
    alpha: int = _setting(32, "LoRA alpha: the adapter's update is scaled by alpha / rank.")
    targets: str = _setting("all-linear", "Layers that get an adapter: all-linear, or names with commas.")

    def __post_init__(self) -> None:
        _require_kinds(self)
        _require(1 <= self.rank <= 256, "rank", self.rank, "between 1 and 256")
        _require(self.alpha >= 1, "alpha", self.alpha, "1 or more")
        _require(bool(self.layers), "targets", self.targets, "all-linear or layer names")

    @property
    def layers(self) -> tuple[str, ...]:
        """The names in `targets`."""
        return tuple(name.strip() for name in self.targets.split(",") if name.strip())


@dataclass(frozen=True, slots=True)
class OptimSettings:
    """How long and how strongly to teach. The same for SDFT and SFT."""

    steps: int = _setting(300, "Optimizer steps.")
    batch: int = _setting(32, "Completions in a step, keep rows included.")
    lr: float = _setting(1e-4, "Learning rate at its highest.")
    schedule: str = _setting("cosine", "Learning rate over the run.", ("cosine", "linear", "constant"))
    warmup: int = _setting(10, "Steps over which the learning rate rises from 0.")
    weight_decay: float = _setting(0.0, "AdamW weight decay.")
    max_norm: float = _setting(1.0, "Gradients longer than this are scaled down to it.")
    seed: int = _setting(0, "Fixes the adapter's start, the batches, the split and the sampling.")

    def __post_init__(self) -> None:
        _require_kinds(self)
        _require(self.steps >= 1, "steps", self.steps, "1 or more")
        _require(self.batch >= 1, "batch", self.batch, "1 or more")
        _require(0 < self.lr <= 1, "lr", self.lr, "above 0 and at most 1")
        _require(self.warmup >= 0, "warmup", self.warmup, "0 or more")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(self.max_norm > 0, "max_norm", self.max_norm, "above 0")
        _require(0 <= self.seed < 2**31, "seed", self.seed, "between 0 and 2147483647")


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How the student answers while it is taught."""

    rollouts: int = _setting(1, "Answers sampled per prompt (the paper found no gain from more).")
    max_new_tokens: int = _setting(256, "Longest answer, in tokens.")
    temperature: float = _setting(1.0, "Sampling temperature.")
    top_p: float = _setting(1.0, "Sample from the likeliest tokens that hold this much probability.")
    top_k: int = _setting(0, "Sample from this many likeliest tokens (0: all).")

    def __post_init__(self) -> None:
        _require_kinds(self)
        _require(self.rollouts >= 1, "rollouts", self.rollouts, "1 or more")
        _require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "1 or more")
        _require(self.temperature > 0, "temperature", self.temperature, "above 0")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 or more")


@dataclass(frozen=True, slots=True)
class DivergenceSettings:
    """What is made small: the distance of the student from the teacher at each token of its own answer."""

    divergence: Literal["forward", "reverse", "jsd"] = _setting(
        "forward", "Forward KL, reverse KL, or generalised JSD.", ("forward", "reverse", "jsd")
    )
    beta: float = _setting(0.5, "Weight of the teacher in the mixture of JSD.")
    support_size: int = _setting(0, "Compare on this many likeliest tokens only (0: the full vocabulary).")
    support: Literal["teacher", "student"] = _setting("teacher", "Whose likeliest tokens.", ("teacher", "student"))
    tail: bool = _setting(True, "Count the mass outside those tokens as one more token.")
    clip: float = _setting(0.0, "Most that one vocabulary entry may add to the divergence (0: no limit).")
    skip_tokens: int = _setting(3, "First tokens of an answer left out of the loss.")
    loss_temperature: float = _setting(1.0, "Divides both models' logits inside the loss.")
    anchor: float = _setting(0.0, "Weight of KL(base || student) on the same answers (0: none).")

    def __post_init__(self) -> None:
        _require_kinds(self)
        _require(0 < self.beta < 1, "beta", self.beta, "between 0 and 1")
        _require(self.support_size >= 0, "support_size", self.support_size, "0 or more")
        _require(self.clip >= 0, "clip", self.clip, "0 or more")
        _require(self.skip_tokens >= 0, "skip_tokens", self.skip_tokens, "0 or more")
        _require(self.loss_temperature > 0, "loss_temperature", self.loss_temperature, "above 0")
        _require(self.anchor >= 0, "anchor", self.anchor, "0 or more")


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """Who the teacher is and what it reads."""

    teacher: Literal["base", "original", "ema", "live"] = _setting(
        "base",
        "The frozen base, the model as it was before any lesson, an average that follows the student, or the student.",
        ("base", "original", "ema", "live"),
    )
    ema_rate: float = _setting(0.01, "Share of the student that the EMA teacher takes over in a step.")
    template: str = _setting("", "The teacher's wording with {prompt} and {demonstration} (empty: the paper's).")

    def __post_init__(self) -> None:
        _require_kinds(self)
        _require(0 < self.ema_rate <= 1, "ema_rate", self.ema_rate, "above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class KeepSettings:
    """Questions whose answers should stay as they are."""

    keep_share: float = _setting(0.2, "Share of each batch that is keep rows, where there are any.")

    def __post_init__(self) -> None:
        _require_kinds(self)
        _require(0 <= self.keep_share < 1, "keep_share", self.keep_share, "at least 0 and below 1")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one run."""

    lora: LoraSettings = LoraSettings()
    optim: OptimSettings = OptimSettings()
    rollout: RolloutSettings = RolloutSettings()
    divergence: DivergenceSettings = DivergenceSettings()
    teacher: TeacherSettings = TeacherSettings()
    keep: KeepSettings = KeepSettings()

    def __post_init__(self) -> None:
        _require(
            self.optim.batch % self.rollout.rollouts == 0,
            "rollouts",
            self.rollout.rollouts,
            f"a divisor of the batch ({self.optim.batch})",
        )

    @property
    def prompts(self) -> int:
        """Prompts in each batch."""
        return self.optim.batch // self.rollout.rollouts

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values, by group."""
        return asdict(self)

    @classmethod
    def from_dict(cls, groups: dict[str, dict[str, Any]]) -> Settings:
        """The inverse of `to_dict`; raises InputError on an unknown group or field."""
        made: dict[str, Any] = {}
        for group in fields(cls):
            values = groups.get(group.name, {})
            kind = GROUPS[group.name]
            unknown = set(values) - {f.name for f in fields(kind)}
            if unknown:
                raise InputError(
                    f"Unknown setting {sorted(unknown)[0]!r} in {group.name}.",
                    "This run is of another version.",
                )
            made[group.name] = kind(**values)
        return cls(**made)


GROUPS: dict[str, Any] = {
    "lora": LoraSettings,
    "optim": OptimSettings,
    "rollout": RolloutSettings,
    "divergence": DivergenceSettings,
    "teacher": TeacherSettings,
    "keep": KeepSettings,
}
"""The groups by name, in the order in which they are shown."""

POCKET_DEFAULTS: dict[str, dict[str, Any]] = {
    "lora": {"targets": "gate_proj,up_proj", "rank": 32, "alpha": 64},
    "optim": {"steps": 320, "lr": 6e-4},
    "rollout": {"max_new_tokens": 32},
    "divergence": {"skip_tokens": 0},
}
"""Where the bundled model's defaults differ: it is small, answers in a sentence and has no preface to skip.

Its adapter sits where the MLP layers decide which facts apply, and leaves attention and what those facts say alone:
of the places tried, that disturbed least of what the model knew, and a wider adapter taught more gently disturbed
less again (docs/pocket.md).
"""


GOING_ON: dict[str, dict[str, Any]] = {
    "optim": {"steps": 700, "lr": 1.2e-3},
    "teacher": {"teacher": "original"},
    "keep": {"keep_share": 0.25},
}
"""Where the bundled model's defaults differ again for a lesson on top of another (benchmarks/keep_rows.py).

It is taught by the model as it was before any lesson, which takes its weights a second time: nothing for a small
model, so a large one does so only when asked to. The second lesson is the harder one: it is longer and firmer, and
holds to more keep rows where there are any.
"""


def own_defaults(pocket: bool, going_on: bool = False) -> dict[str, dict[str, Any]]:
    """Where a run's defaults differ from `Settings()`, by group: the bundled model's do."""
    if not pocket:
        return {}
    more = GOING_ON if going_on else {}
    return {group: POCKET_DEFAULTS.get(group, {}) | more.get(group, {}) for group in {**POCKET_DEFAULTS, **more}}
