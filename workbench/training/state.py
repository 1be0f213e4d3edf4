"""What changes while a model is taught: the adapter, the optimizer's moments, the EMA teacher, the step's number.

Nothing else does. Batches and random numbers are functions of the seed and the step, so a run that goes on from a
saved state takes the same steps as one that was never interrupted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.roles import Roles
from workbench.settings import OptimSettings, Settings
from workbench.training.together import crew

_TOO_LARGE = (
    "fp16 holds no number above 65,504, and some models (Gemma 3) have larger ones inside: teach with --precision bf16 "
    "where the card has it, or fp32. Where the run went well until here, try a lower --lr."
)

# By how many powers of two a loss is magnified less where its gradient overflowed, and how often.
_LOWER, _MOST_LOWERED = 4, 4


class Overflowed(Exception):
    """A gradient was too large for fp16 as it was magnified; the step may be taken again, magnified less."""


def learning_rate(step: int, settings: OptimSettings) -> float:
    """Learning rate of step 1, 2, ...: linear warm-up, then cosine or linear to 0, or constant."""
    warm = min(1.0, step / settings.warmup) if settings.warmup else 1.0
    done = (step - 1) / max(1, settings.steps)
    if settings.schedule == "cosine":
        return settings.lr * warm * 0.5 * (1 + math.cos(math.pi * done))
    if settings.schedule == "linear":
        return settings.lr * warm * (1 - done)
    return settings.lr * warm


@dataclass
class TrainingState:
    """A run between two steps. `tensors` and `load` carry it through a checkpoint."""

    roles: Roles
    settings: Settings
    optimizer: torch.optim.AdamW
    step: int = 0
    lowered: int = 0
    """How often the step in progress overflowed; each time it is magnified less."""

    @classmethod
    def begin(cls, roles: Roles, settings: Settings) -> TrainingState:
        """The state before the first step."""
        if settings.teacher.teacher == "ema":
            roles.start_ema()
        optimizer = torch.optim.AdamW(
            list(roles.adapter.values()),
            lr=settings.optim.lr,
            weight_decay=settings.optim.weight_decay,
            fused=True,
        )
        return cls(roles, settings, optimizer)

    @property
    def half(self) -> bool:
        """Whether the model computes in fp16, which holds nothing above 65,504 and nothing below 6e-8."""
        return bool(self.roles.loaded.model.get_input_embeddings().weight.dtype == torch.float16)

    @property
    def magnified(self) -> float:
        """What a loss is multiplied by on its way back, and the adapter's gradients, which are fp32, divided by.

        In the mean over a step one token of a long answer has so small a share that its gradient is lost in fp16
        without an error, where the only token of a short answer has as much as all of those: this lies between the
        two. A power of two: nothing is rounded for it. Where that is too much for a step, it is taken again with
        less; the next one begins as if nothing had happened, so that a run that goes on takes the same steps.
        """
        if not self.half:
            return 1.0
        share = self.settings.optim.batch * self.settings.rollout.max_new_tokens**0.5
        return float(2.0 ** (math.ceil(math.log2(share)) - _LOWER * self.lowered))

    def accumulate(self, loss: Tensor) -> None:
        """Add the gradient of one part of the step's loss, `magnified`."""
        (loss * self.magnified).backward()  # type: ignore[no-untyped-call]

    def clear(self) -> None:
        """Forget gradients, also those of a step that was not finished."""
        self.optimizer.zero_grad(set_to_none=True)

    def update(self, loss: float) -> tuple[float, float]:
        """One AdamW step on the adapter; returns the learning rate and the gradient's norm before clipping.

        Nothing that may run out of memory comes between the first changed weight and the last.

        Raises:
            Overflowed: a gradient is not finite, and `lowered` was raised for another try at the step.
            WorkbenchError: the loss or a gradient is not finite; the adapter is left as it was.
        """
        parameters = list(self.roles.adapter.values())
        crew().add_up(parameters)
        for parameter in parameters if self.half else ():
            if parameter.grad is not None:
                parameter.grad.div_(self.magnified)
        rate = learning_rate(self.step + 1, self.settings.optim)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.settings.optim.max_norm))
        if not (math.isfinite(norm) and math.isfinite(loss)):
            self.clear()
            if self.half and math.isfinite(loss) and self.lowered < _MOST_LOWERED:
                self.lowered += 1
                raise Overflowed
            raise WorkbenchError(
                f"The gradient of step {self.step + 1} is not finite (loss {loss:g}, "
                f"learning rate {rate:g}). The adapter is as step {self.step} left it.",
                _TOO_LARGE
                if self.half
                else "Teach again with a lower --lr, or look at the rows for very long or odd demonstrations.",
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        self.lowered = 0
        self.clear()
        if self.settings.teacher.teacher == "ema":
            self.roles.follow(self.settings.teacher.ema_rate)
        self.roles.student_decoder.refresh()
        return rate, norm

    def tensors(self) -> dict[str, Tensor]:
        """Everything to be saved besides the step's number, by name."""
        saved: dict[str, Tensor] = {}
        for name, parameter in self.roles.adapter.items():
            saved[f"adapter.{name}"] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                saved[f"adamw.{key}.{name}"] = value
        for name, value in self.roles.ema_adapter.items():
            saved[f"ema.{name}"] = value
        return saved

    @torch.no_grad()
    def load(self, saved: dict[str, Tensor], step: int) -> None:
        """Take over what `tensors` gave at the end of `step`. Raises KeyError or ValueError where names or
        shapes differ."""
        for name, parameter in self.roles.adapter.items():
            if saved[f"adapter.{name}"].shape != parameter.shape:
                raise ValueError(f"{name} has another shape")
            parameter.copy_(saved[f"adapter.{name}"])
            if step:
                # All three where the weights are, the count of steps too: so the fused AdamW wants them.
                self.optimizer.state[parameter] = {
                    key: saved[f"adamw.{key}.{name}"].to(parameter.device, copy=True)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
        for name, value in self.roles.ema_adapter.items():
            value.copy_(saved[f"ema.{name}"])
        self.roles.refresh()
        self.step = step
