"""An exponential moving average of the weights."""

from typing import Literal

from pydantic import Field
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mmtrain.engine.averages.average import WeightAverage
from mmtrain.engine.times import StepsOrShare, steps_of
from mmtrain.section import Section


class EMAConfig(Section):
    """a <- decay a + (1 - decay) w behind every step; a begins as the first w (Polyak and Juditsky, 1992)."""

    name: Literal["ema"] = "ema"
    decay: float = Field(default=0.99, gt=0, lt=1, description="The average is over the last 1 / (1 - decay) steps or so.")
    start: StepsOrShare = Field(default=0.0, description="First step averaged (1 or more), or its share of the run.")

    def build(self, model: nn.Module, *, total: int) -> WeightAverage:
        """The average of `model`, which is not wrapped yet, over `total` steps."""
        start = max(steps_of(self.start, total=total), 1)
        update = get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
        return WeightAverage(model, update=update, start=start)
