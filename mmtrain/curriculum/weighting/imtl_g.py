"""The update has the same projection on the direction of every task's gradient."""

from typing import Literal

from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.gradients import Aggregation, GradientSection


class ImtlGConfig(GradientSection):
    """Impartial multi-task learning, its part on gradients.

    The update is sum_i a_i g_i, sum a = 1 (a may be negative), with <update, g_i> / |g_i| equal for all i. It has an
    average's scale, not a sum's.
    Source: Liu et al. 2021, "Towards Impartial Multi-task Learning", equation 4; torchjd's IMTLG, which also takes linearly
    dependent gradients.
    """

    name: Literal["imtl_g"] = "imtl_g"

    def build(self, setting: Setting) -> Aggregation:  # noqa: ARG002
        from torchjd.aggregation import IMTLG

        return Aggregation(aggregator=IMTLG(), over=self.over)
