"""Tasks whose loss falls more slowly get larger weights."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.protocol import normalized_to_count
from mmtrain.curriculum.weighting.task_losses import TaskLosses
from mmtrain.section import Section


class DwaConfig(Section):
    """Dynamic weight average, over windows where the paper has epochs."""

    name: Literal["dwa"] = "dwa"
    temperature: float = Field(default=2.0, ge=0.01, le=1000, description="Above 1 evens the weights out; the paper uses 2.")

    def build(self, setting: Setting) -> "Dwa":  # noqa: ARG002
        return Dwa(temperature=self.temperature)


class Dwa:
    """w_k(t) = K exp(r_k(t-1) / T) / sum_i exp(r_i(t-1) / T), r_k(t-1) = L_k(t-1) / L_k(t-2); r = 1 until two are known.
    K and the sum are of the active tasks.

    Source: Liu, Johns and Davison 2019, "End-to-End Multi-Task Learning with Attention", equation 7.
    """

    def __init__(self, *, temperature: float = 2.0) -> None:
        self.temperature = temperature
        self._losses = TaskLosses()
        self._before: dict[str, float] = {}
        self._ratios: dict[str, float] = {}

    def weights(self, step: int, active: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        ratios = {task: self._ratios.get(task, 1.0) / self.temperature for task in active}
        largest = max(ratios.values())
        return normalized_to_count({task: math.exp(ratio - largest) for task, ratio in ratios.items()})

    def observe(self, report: WindowReport | EvalReport) -> None:
        if isinstance(report, EvalReport):
            return
        for task, loss in self._losses.update(report).items():
            if self._before.get(task, 0.0) > 0:
                self._ratios[task] = loss / self._before[task]
            self._before[task] = loss

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self._losses.state_dict(), "before": dict(self._before), "ratios": dict(self._ratios)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._losses.load_state_dict(state["losses"])
        self._before, self._ratios = dict(state["before"]), dict(state["ratios"])
