"""Half a cosine down to the run's end."""

import math
from typing import Literal

from mmtrain.engine.schedules.schedule import Factor
from mmtrain.engine.schedules.warmup import End, Span, WarmupSection


class CosineConfig(WarmupSection):
    """end + (1 - end) (1 + cos(pi p)) / 2, p the progress behind warm-up (Loshchilov and Hutter, 2017, equation 5)."""

    name: Literal["cosine"] = "cosine"
    end: End = 0.0

    def after_warmup(self, span: Span) -> Factor:
        """The half wave."""
        return lambda since: half_wave(span.progress(since), end=self.end)


def half_wave(progress: float, *, end: float) -> float:
    """1 at progress 0, the mean of 1 and `end` in the middle, `end` at 1."""
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * progress))
