"""Weights that step up where a task's loss rose and down where it fell."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.protocol import normalized_to_count
from mmtrain.curriculum.weighting.task_losses import TaskLosses
from mmtrain.section import Section


class AdaptiveConfig(Section):
    """A step of every weight after every window."""

    name: Literal["adaptive"] = "adaptive"
    factor: float = Field(default=1.1, gt=1, le=10, description="What a weight is multiplied or divided by.")
    lowest: float = Field(default=0.2, gt=0, le=1, description="Least weight, before all are scaled to sum to K.")
    highest: float = Field(default=5.0, ge=1, description="Largest weight, before all are scaled to sum to K.")

    @model_validator(mode="after")
    def _bounds_hold_one(self) -> "AdaptiveConfig":
        if not self.lowest <= 1 <= self.highest:
            raise ValueError(f"lowest {self.lowest} and highest {self.highest} must have the first weight, 1, between them")
        return self

    def build(self, setting: Setting) -> "Adaptive":
        return Adaptive(tasks=setting.tasks, factor=self.factor, lowest=self.lowest, highest=self.highest)


class Adaptive:
    """v_k <- clip(v_k factor^s, lowest, highest), s = +1 where L_k rose since the last window, -1 where it fell, 0 else;
    w_k = K v_k / sum_i v_i over the K active tasks. All v are 1 at the start. A heuristic without a paper: opposite steps
    undo each other, and the bounds keep every task in training.
    """

    def __init__(self, *, tasks: Sequence[str], factor: float = 1.1, lowest: float = 0.2, highest: float = 5.0) -> None:
        self._factor, self._bounds = factor, (lowest, highest)
        self._values = dict.fromkeys(tasks, 1.0)
        self._losses = TaskLosses()
        self._before: dict[str, float] = {}

    def weights(self, step: int, active: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        return normalized_to_count({task: self._values[task] for task in active})

    def observe(self, report: WindowReport | EvalReport) -> None:
        if isinstance(report, EvalReport):
            return
        low, high = self._bounds
        for task, loss in self._losses.update(report).items():
            before = self._before.get(task, loss)
            sign = (loss > before) - (loss < before)
            self._values[task] = min(max(self._values[task] * self._factor**sign, low), high)
            self._before[task] = loss

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self._losses.state_dict(), "before": dict(self._before), "values": dict(self._values)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._losses.load_state_dict(state["losses"])
        self._before, self._values = dict(state["before"]), dict(state["values"])
