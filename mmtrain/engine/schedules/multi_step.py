"""The rate falls at given times and stands still between them."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mmtrain.engine.schedules.schedule import Factor
from mmtrain.engine.schedules.warmup import Span, Unit, WarmupSection


class MultiStepConfig(WarmupSection):
    """gamma^(milestones that have passed); they count from the run's start, warm-up included."""

    name: Literal["multi_step"] = "multi_step"
    milestones: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, description="Times at which the rate falls, in `unit`, each later than the one before."
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="What is left of the rate at each.")
    unit: Unit = Field(default="epochs", description="What `milestones` count: epochs or optimizer steps.")

    @model_validator(mode="after")
    def _milestones_rise(self) -> Self:
        for earlier, later in pairwise(self.milestones):
            if later <= earlier:
                raise ValueError(f"milestones: {later:g} stands behind {earlier:g}; write them in rising order")
        return self

    def after_warmup(self, span: Span) -> Factor:
        """The stairs."""
        steps = [span.steps(time, self.unit) for time in self.milestones]
        return lambda since: self.gamma ** sum(since + span.warmup >= step for step in steps)
