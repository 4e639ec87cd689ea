"""Each gradient is projected to where no task loses, and the projections are averaged."""

from typing import Literal

from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.gradients import Aggregation, GradientSection
from mmtrain.extras import require


class UpgradConfig(GradientSection):
    """Unconflicting projection of gradients.

    The update is the mean over i of the vector nearest to g_i among those with <v, g_j> >= 0 for all j: an average's scale.
    Needs the extra `solvers`: quadprog is under the GPL (2 or later), qpsolvers under the LGPL (3).
    Source: Quinton and Rey 2024, "Jacobian Descent for Multi-Objective Optimization", definition of A_UPGrad; torchjd's
    UPGrad.
    """

    name: Literal["upgrad"] = "upgrad"

    def build(self, setting: Setting) -> Aggregation:  # noqa: ARG002
        """Errors: ConfigError where the solvers are missing."""
        require("curriculum.weighting: upgrad", ["qpsolvers", "quadprog"], extra="solvers")
        from torchjd.aggregation import UPGrad

        return Aggregation(aggregator=UPGrad(), over=self.over)
