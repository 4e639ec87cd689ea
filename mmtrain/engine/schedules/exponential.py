"""The same part of the rate is lost every epoch."""

from typing import Literal

from pydantic import Field

from mmtrain.engine.schedules.schedule import Factor
from mmtrain.engine.schedules.warmup import Span, Unit, WarmupSection


class ExponentialConfig(WarmupSection):
    """gamma^t, t epochs (or steps) behind warm-up; it falls with every step, not with the epoch's end."""

    name: Literal["exponential"] = "exponential"
    gamma: float = Field(default=0.5, gt=0, le=1, description="What is left of the rate after one `unit`.")
    unit: Unit = Field(default="epochs", description="What `gamma` is of: epochs or optimizer steps.")

    def after_warmup(self, span: Span) -> Factor:
        """The power."""
        return lambda since: self.gamma ** (since / span.steps(1, self.unit))
