"""The shortest vector among the averages of the gradients: no task gets worse by it."""

from typing import Literal

from pydantic import Field

from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.gradients import Aggregation, GradientSection


class MgdaConfig(GradientSection):
    """The multiple gradient descent algorithm.

    The update is sum_i a_i g_i, a >= 0, sum a = 1, with the smallest norm, found by Frank and Wolfe's algorithm. It is an
    average: K times smaller than a sum of K like gradients, and 0 where the tasks cannot all gain.
    Source: Desideri 2012; Sener and Koltun 2018, "Multi-Task Learning as Multi-Objective Optimization", algorithm 2;
    torchjd's MGDA.
    """

    name: Literal["mgda"] = "mgda"
    epsilon: float = Field(default=1e-3, gt=0, lt=1, description="The search ends at a step smaller than this.")
    max_iters: int = Field(default=100, ge=1, description="Most steps of the search.")

    def build(self, setting: Setting) -> Aggregation:  # noqa: ARG002
        from torchjd.aggregation import MGDA

        return Aggregation(aggregator=MGDA(epsilon=self.epsilon, max_iters=self.max_iters), over=self.over)
