"""The learning rate over a run: linear warm-up, then linear, cosine or constant; a pure function of finished steps."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, model_validator

from mmtrain.section import Section

Decay = Literal["linear", "cosine", "constant"]


class LrScheduleConfig(Section):
    """Factor on every group's peak learning rate."""

    decay: Decay = "linear"
    warmup: float = Field(default=0.1, ge=0, description="Optimizer steps of warm-up (1 or more), or their share (below 1).")

    @model_validator(mode="after")
    def _steps_are_whole(self) -> "LrScheduleConfig":
        if self.warmup > 1 and self.warmup != int(self.warmup):
            raise ValueError(f"warmup: {self.warmup} is neither a share below 1 nor a whole number of steps")
        return self

    def build(self, optimizer: torch.optim.Optimizer, *, total: int) -> torch.optim.lr_scheduler.LambdaLR:
        """A scheduler over `total` optimizer steps."""
        warmup = int(self.warmup) if self.warmup >= 1 else round(self.warmup * total)
        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor_of(self.decay, warmup=warmup, total=total))


def factor_of(decay: Decay, *, warmup: int, total: int) -> Callable[[int], float]:
    """The factor for the step after `finished` steps: (finished + 1) / warmup while warming up, then from 1 down to 0."""

    def factor(finished: int) -> float:
        if finished < warmup:
            return (finished + 1) / warmup
        progress = min((finished - warmup) / max(total - warmup, 1), 1.0)
        if decay == "constant":
            return 1.0
        return 1.0 - progress if decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))

    return factor
