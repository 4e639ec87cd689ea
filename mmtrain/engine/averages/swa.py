"""Stochastic weight averaging: the plain mean of weights late in the run."""

from typing import Literal

from pydantic import Field
from torch import nn
from torch.optim.swa_utils import get_swa_multi_avg_fn

from mmtrain.engine.averages.average import WeightAverage
from mmtrain.engine.times import StepsOrShare, steps_of
from mmtrain.section import Section


class SWAConfig(Section):
    """The mean of the weights at `start` and every `every` steps from there on (Izmailov et al., 2018, algorithm 1).

    Meant for a rate that does not fall to 0: schedule constant, or cosine_restarts.
    """

    name: Literal["swa"] = "swa"
    start: StepsOrShare = Field(default=0.75, description="First step averaged (1 or more), or its share of the run.")
    every: int = Field(default=1, ge=1, description="Optimizer steps from one to the next.")

    def build(self, model: nn.Module, *, total: int) -> WeightAverage:
        """The average of `model`, which is not wrapped yet, over `total` steps."""
        start = max(steps_of(self.start, total=total), 1)
        update = get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        return WeightAverage(model, update=update, start=start, every=self.every)
