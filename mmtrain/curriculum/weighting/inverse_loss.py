"""Every task gets the same part of the total loss."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.protocol import normalized_to_count
from mmtrain.curriculum.weighting.task_losses import TaskLosses
from mmtrain.section import Section

_SMALLEST = 1e-6  # a task whose loss is 0 has nothing to gain by a larger weight


class InverseLossConfig(Section):
    """Weights by the inverse of each task's loss in the last window."""

    name: Literal["inverse_loss"] = "inverse_loss"
    smoothing: float = Field(default=0.0, ge=0, lt=1, description="Weight of the past in the average of losses; 0 = none.")

    def build(self, setting: Setting) -> "InverseLoss":  # noqa: ARG002
        return InverseLoss(smoothing=self.smoothing)


class InverseLoss:
    """w_k = K (1 / L_k) / sum_i (1 / L_i), L_k the (averaged) loss of the last window; equal weights before the first.

    K and the sum are of the active tasks. A task without a loss yet counts with the mean of the others. The weight is a
    number, not part of the graph: the gradient is that of L_k / L_k(before), not of log L_k.
    """

    def __init__(self, *, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing
        self._losses = TaskLosses()
        self._averages: dict[str, float] = {}

    def weights(self, step: int, active: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        unknown = fmean(self._averages.values()) if self._averages else 1.0
        return normalized_to_count({task: 1 / max(self._averages.get(task, unknown), _SMALLEST) for task in active})

    def observe(self, report: WindowReport | EvalReport) -> None:
        if isinstance(report, EvalReport):
            return
        for task, loss in self._losses.update(report).items():
            before = self._averages.get(task, loss)
            self._averages[task] = self.smoothing * before + (1 - self.smoothing) * loss

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self._losses.state_dict(), "averages": dict(self._averages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._losses.load_state_dict(state["losses"])
        self._averages = dict(state["averages"])
