"""The two ways of teaching, as generators of `Step` events: SDFT, and the SFT it is compared with."""

from workbench.events import RolloutSample, Step
from workbench.training.sdft import sdft
from workbench.training.sft import sft
from workbench.training.state import TrainingState

__all__ = ["RolloutSample", "Step", "TrainingState", "sdft", "sft"]
