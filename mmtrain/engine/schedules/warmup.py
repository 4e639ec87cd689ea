"""Linear warm-up to the peak, which every schedule begins with, and the times that follow it."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from mmtrain.engine.schedules.schedule import Factor, LrSchedule
from mmtrain.engine.times import StepsOrShare, steps_of
from mmtrain.section import Section

Unit = Literal["steps", "epochs"]
End = Annotated[float, Field(ge=0, le=1, description="Factor that the run ends with.")]


@dataclass(frozen=True, kw_only=True)
class Span:
    """How long a run is, in optimizer steps."""

    total: int
    warmup: int
    steps_per_epoch: int

    @property
    def rest(self) -> int:
        """Steps behind warm-up, 1 where there is none."""
        return max(self.total - self.warmup, 1)

    def progress(self, since: int) -> float:
        """From 0 to 1, `since` steps behind warm-up."""
        return min(since / self.rest, 1.0)

    def steps(self, time: float, unit: Unit) -> int:
        """A time of the config in optimizer steps, rounded to a whole one."""
        return round(time * self.steps_per_epoch) if unit == "epochs" else round(time)


class WarmupSection(Section):
    """What every schedule's config has."""

    name: str
    warmup: StepsOrShare = Field(default=0.1, description="Steps of warm-up (1 or more), or their share of the run.")

    def factor(self, span: Span) -> Factor:
        """Finished steps -> factor: (finished + 1) / warmup while warming up, then what the schedule says."""
        after, warmup = self.after_warmup(span), span.warmup
        return lambda finished: (finished + 1) / warmup if finished < warmup else after(finished - warmup)

    def after_warmup(self, span: Span) -> Factor:  # noqa: ARG002 - as the rows have it
        """Steps behind warm-up -> factor. Errors: ConfigError where the schedule does not fit the run."""
        return lambda since: 1.0  # noqa: ARG005 - a Factor

    def build(self, optimizer: torch.optim.Optimizer, *, total: int, steps_per_epoch: int) -> LrSchedule:
        """The schedule over `total` optimizer steps. Errors: ConfigError where it does not fit the run."""
        return LrSchedule(optimizer, factor=self.factor(self.span(total, steps_per_epoch)))

    def span(self, total: int, steps_per_epoch: int) -> Span:
        """The run's length, and how much of it is warm-up."""
        return Span(total=total, warmup=steps_of(self.warmup, total=total), steps_per_epoch=steps_per_epoch)
