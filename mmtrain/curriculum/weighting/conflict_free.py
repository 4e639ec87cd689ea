"""The update makes the same angle with every task's gradient."""

from typing import Literal

from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.gradients import Aggregation, GradientSection


class ConflictFreeConfig(GradientSection):
    """ConFIG.

    With U the unit gradients [K, P], d = U^+ 1 and u = d / |d|, the update is (sum_i <g_i, u>) u: it has the sum's
    projection on its own direction, and with it a sum's scale.
    Source: Liu, Chu and Thuerey 2025, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
    equation 2; torchjd's ConFIG.
    """

    name: Literal["conflict_free"] = "conflict_free"

    def build(self, setting: Setting) -> Aggregation:  # noqa: ARG002
        from torchjd.aggregation import ConFIG

        return Aggregation(aggregator=ConFIG(), over=self.over)
