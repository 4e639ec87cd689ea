"""A gradient that conflicts with another loses its part against it."""

from typing import Literal

from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.gradients import Aggregation, GradientSection


class PcgradConfig(GradientSection):
    """Gradient surgery.

    Each g_i is projected, for every j in random order with <g_i, g_j> < 0, to g_i - <g_i, g_j> / |g_j|^2 g_j; the update is
    the sum of all. Without conflicts it is the sum of the gradients, as `fixed` has it.
    Source: Yu et al. 2020, "Gradient Surgery for Multi-Task Learning", algorithm 1; torchjd's PCGrad.
    """

    name: Literal["pcgrad"] = "pcgrad"

    def build(self, setting: Setting) -> Aggregation:
        from torchjd.aggregation import PCGrad

        return Aggregation(aggregator=PCGrad(), over=self.over, seed=setting.seed)
