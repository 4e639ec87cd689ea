"""The gradients are replaced by the nearest ones that are orthogonal and equally long."""

from typing import Literal

from pydantic import Field

from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.gradients import Aggregation, GradientSection


class AlignedMtlConfig(GradientSection):
    """Independent component alignment.

    With G the gradients [K, P] and G G^T = V diag(l) V^T, the update is the mean of the rows of
    sqrt(scale) V diag(l^-1/2) V^T G, scale by `scale_mode` out of the eigenvalues l above 0. It has an average's scale.
    Source: Senushkin et al. 2023, "Independent Component Alignment for Multi-Task Learning", algorithm 1; torchjd's
    AlignedMTL.
    """

    name: Literal["aligned_mtl"] = "aligned_mtl"
    scale_mode: Literal["min", "median", "rmse"] = Field(
        default="min", description="Which eigenvalue all become: the least (as in the paper), the median, or the mean."
    )

    def build(self, setting: Setting) -> Aggregation:  # noqa: ARG002
        from torchjd.aggregation import AlignedMTL

        return Aggregation(aggregator=AlignedMTL(scale_mode=self.scale_mode), over=self.over)
