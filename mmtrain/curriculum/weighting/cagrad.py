"""Near the mean gradient, the update by which the worst task gains most."""

from typing import Literal

from pydantic import Field

from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.gradients import Aggregation, GradientSection
from mmtrain.extras import require


class CagradConfig(GradientSection):
    """Conflict-averse gradient descent.

    With g the mean gradient, the update is the d with |d - g| <= c |g| for which min_i <g_i, d> is largest: an average's
    scale. Needs the extra `solvers`: cvxpy and clarabel, both under the Apache licence.
    Source: Liu et al. 2021, "Conflict-Averse Gradient Descent for Multi-task Learning", algorithm 1; torchjd's CAGrad.
    """

    name: Literal["cagrad"] = "cagrad"
    c: float = Field(default=0.5, ge=0, lt=1, description="How far from the mean gradient; 0 = it itself.")

    def build(self, setting: Setting) -> Aggregation:  # noqa: ARG002
        """Errors: ConfigError where the solver is missing."""
        require("curriculum.weighting: cagrad", ["cvxpy", "clarabel"], extra="solvers")
        from torchjd.aggregation import CAGrad

        return Aggregation(aggregator=CAGrad(c=self.c), over=self.over)
