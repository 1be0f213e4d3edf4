"""What happens in a run, as frozen values that become one JSON line each. No tensors, no handles."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

_GOOD = 0.7


@dataclass(frozen=True, slots=True)
class TokenChoices:
    """What student and teacher would have said at one token: their likeliest tokens with probabilities, best first."""

    student: tuple[tuple[str, float], ...]
    teacher: tuple[tuple[str, float], ...]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TokenChoices:
        """From plain values, after a passage through JSON too."""
        return cls(*(tuple((str(t), float(p)) for t, p in values[role]) for role in ("student", "teacher")))


@dataclass(frozen=True, slots=True)
class RolloutSample:
    """One answer of the student in a step, and where the teacher disagreed with it.

    Attributes:
        row: the row's id, or its number in the teaching set.
        text: the answer as read.
        tokens: the same, token by token.
        divergence: nats at each token (0 where the token was left out of the loss).
        keep: whether it answers a keep row.
        choices: at each of the first tokens, what else student and teacher considered; empty where that is not known.
    """

    row: str
    prompt: str
    text: str
    tokens: tuple[str, ...]
    divergence: tuple[float, ...]
    keep: bool = False
    choices: tuple[TokenChoices, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        values = {name: getattr(self, name) for name in _SAMPLE_FIELDS}
        # By hand: `asdict` takes longer over these many small tuples than the step's own bookkeeping.
        values["choices"] = [{"student": c.student, "teacher": c.teacher} for c in self.choices]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RolloutSample:
        """The inverse of `to_dict`, after a passage through JSON too."""
        lists = {name: tuple(values[name]) for name in ("tokens", "divergence")}
        choices = tuple(TokenChoices.from_dict(c) for c in values.get("choices", ()))
        return cls(**{**values, **lists, "choices": choices})


_SAMPLE_FIELDS = ("row", "prompt", "text", "tokens", "divergence", "keep")


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step.

    Attributes:
        step, steps: number of this step, counted from 1, and of all.
        loss: what was made small; for SDFT the mean divergence in nats, for SFT the cross-entropy in nats.
        learning_rate: of this step.
        gradient_norm: before clipping.
        tokens: completion tokens that were counted in the loss.
        length: mean length of the completions, in tokens.
        seconds: time by phase (sample, teacher, student, update; SFT has the last two).
        entropy: of the student's next-token distribution, nats per counted token.
        agreement: share of counted tokens at which the student's first choice is the teacher's (SFT: the target).
        keep_loss: the part of `loss` that keep rows gave, as mean over them; None without any.
        samples: a few of the step's rollouts.
        smaller: where memory ran out in this step: how many answers at a time it took then, and the steps after it
            take (`micro_batch` in a training pass, `at_once` while sampling; 0: all); None otherwise.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    length: float
    seconds: dict[str, float]
    entropy: float
    agreement: float
    keep_loss: float | None = None
    samples: tuple[RolloutSample, ...] = field(default=())
    smaller: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """A share with how many it is of and its 95% interval (Wilson)."""

    value: float
    n: int
    low: float
    high: float

    @property
    def good(self) -> bool:
        """Whether a teacher that is right so often can teach, and a base needs no teaching."""
        return self.value >= _GOOD


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run began: which data, which model, how long; `on`: the run it goes on from, whose result is its base."""

    run: str
    method: str
    model: str
    steps: int
    teaching: int
    held_out: int
    keep: int
    probes: int
    notes: tuple[str, ...] = ()
    on: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """The teacher check before training, on the held-out rows.

    Attributes:
        base, teacher: the base's share of right answers without and with the demonstration; None if no row can be
            scored.
        probes: share of the retention probes that the base gets right; those are what can be forgotten.
    """

    base: Measure | None
    teacher: Measure | None
    probes: Measure | None
    verdict: str
    advice: str


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The student at a step: held-out skill, and the share of what the base could do that it still can.

    Either is None where there is nothing to measure it on.
    """

    step: int
    skill: Measure | None
    retention: Measure | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint of this step was published."""

    step: int


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run reached its last step."""

    step: int
    seconds: float


Event = RunStarted | Checked | Step | Evaluated | Saved | RunEnded

_KINDS: dict[str, Any] = {
    "run_started": RunStarted,
    "checked": Checked,
    "step": Step,
    "evaluated": Evaluated,
    "saved": Saved,
    "run_ended": RunEnded,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_dict(event: Event) -> dict[str, Any]:
    """A dictionary of plain values with the event's kind under `event`."""
    if isinstance(event, Step):
        values = asdict(replace(event, samples=()))
        return {"event": "step", **values, "samples": [sample.to_dict() for sample in event.samples]}
    return {"event": _NAMES[type(event)], **asdict(event)}


def from_dict(values: dict[str, Any]) -> Event:
    """The inverse of `to_dict` (also after a passage through JSON). Raises ValueError on an unknown event."""
    values = {k: v for k, v in values.items() if k != "seq"}
    name = values.pop("event", None)
    if name not in _KINDS:
        raise ValueError(f"unknown event {name!r}")
    if name == "step":
        made = tuple(RolloutSample.from_dict(sample) for sample in values.pop("samples", ()))
        return Step(**values, samples=made)
    for key in ("skill", "retention", "base", "teacher", "probes"):
        if isinstance(values.get(key), dict):
            values[key] = Measure(**values[key])
    if "notes" in values:
        values["notes"] = tuple(values["notes"])
    event: Event = _KINDS[name](**values)
    return event
