"""What the model has learned already decides what it learns next: samples below a loss that rises."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mmtrain.curriculum.decision import Weights
from mmtrain.curriculum.pacing.pacer import Pacer
from mmtrain.curriculum.pacing.protocol import Choice
from mmtrain.curriculum.pacing.ranking import Floats, Ranking
from mmtrain.curriculum.reports import round_significant
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import Integers
from mmtrain.section import Section

_LARGEST = float(np.finfo(np.float32).max)


class ThresholdConfig(Section):
    """How the threshold of the losses begins and rises."""

    start: float = Field(
        default=0.5, gt=0, le=1, description="Part of a stream's losses below its first threshold, when all are known."
    )
    growth: float = Field(default=1.3, gt=1, le=1000, description="What the threshold is multiplied with every pass.")
    probe_every: int | None = Field(
        default=1, ge=1, description="Passes between evaluations of the samples left out; null: they keep their loss."
    )


class SelfPacedConfig(ThresholdConfig):
    """The samples whose loss is below the threshold, all weighing the same."""

    name: Literal["self_paced"] = "self_paced"

    def build(self, setting: Setting) -> Pacer:
        """The pacer of this stage."""
        pacing = SelfPaced(start=self.start, growth=self.growth)
        return Pacer(pacing, setting=setting, listens=True, probe_every=self.probe_every)


class SelfPaced:
    """v_i = 1 where l_i < lambda, else 0: the pool of pass n is {i: l_i < lambda_0 growth^n}, at least the easiest sample.

    lambda_0 is the quantile `start` of the stream's losses when all its samples have one for the first time (where that is
    0, the least loss above 0).
    Source: Kumar, Packer and Koller 2010, "Self-Paced Learning for Latent Variable Models", equation 4, lambda = 1 / K.
    """

    def __init__(self, *, start: float, growth: float) -> None:
        self.start, self.growth = start, growth
        self._first: dict[str, float] = {}  # stream -> lambda_0

    def threshold(self, stream: str, number: int) -> float:
        """lambda of a pass: the loss that its samples stay below, a float32."""
        factor = math.exp(min(number * math.log(self.growth), 300.0))
        return float(np.float32(min(self._first[stream] * factor, _LARGEST)))

    def begin(self, stream: str, values: Floats) -> None:
        """Set the first threshold of a stream."""
        first = float(np.quantile(values, self.start))
        if first <= 0:
            above = values[values > 0]
            first = float(above.min()) if len(above) else 1.0
        self._first[stream] = round_significant(first)

    def choose(self, ranking: Ranking, *, stream: str, number: int, step: int) -> Choice:  # noqa: ARG002
        """What lies below the threshold."""
        below = ranking.values < self.threshold(stream, number)
        if below.all():
            return Choice(None)
        return Choice(below if below.any() else ranking.easiest(1), until=number + 1)

    def weights(self, values: Floats, *, stream: str, numbers: Integers) -> Weights | None:  # noqa: ARG002
        """Every sample counts alike."""
        return None

    def words(self, *, stream: str, number: int, step: int) -> str:  # noqa: ARG002
        """The threshold."""
        return f"losses below {self.threshold(stream, number):.3g}"

    def state_dict(self) -> dict[str, Any]:
        """The first thresholds by stream."""
        return {"first": dict(self._first)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._first = dict(state["first"])
