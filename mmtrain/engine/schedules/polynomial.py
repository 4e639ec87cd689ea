"""A power of what is left of the run."""

from typing import Literal

from pydantic import Field

from mmtrain.engine.schedules.schedule import Factor
from mmtrain.engine.schedules.warmup import End, Span, WarmupSection


class PolynomialConfig(WarmupSection):
    """end + (1 - end) (1 - p)^power, p the progress behind warm-up."""

    name: Literal["polynomial"] = "polynomial"
    power: float = Field(default=2.0, gt=0, description="1: a line; above: it falls fast at first.")
    end: End = 0.0

    def after_warmup(self, span: Span) -> Factor:
        """The power of the rest."""
        return lambda since: self.end + (1.0 - self.end) * (1.0 - span.progress(since)) ** self.power
