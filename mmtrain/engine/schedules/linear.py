"""A straight line down to the run's end."""

from typing import Literal

from mmtrain.engine.schedules.schedule import Factor
from mmtrain.engine.schedules.warmup import End, Span, WarmupSection


class LinearConfig(WarmupSection):
    """1 - (1 - end) p, p the progress behind warm-up."""

    name: Literal["linear"] = "linear"
    end: End = 0.0

    def after_warmup(self, span: Span) -> Factor:
        """The line."""
        return lambda since: 1.0 - (1.0 - self.end) * span.progress(since)
