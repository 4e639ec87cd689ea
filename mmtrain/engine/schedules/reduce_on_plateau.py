"""The rate falls where a validation metric no longer improves."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field

from mmtrain.curriculum.reports import EvalReport, metric_in
from mmtrain.curriculum.schedules.plateau import Mode, Plateau
from mmtrain.engine.schedules.schedule import LrSchedule
from mmtrain.engine.schedules.warmup import WarmupSection


class ReduceOnPlateauConfig(WarmupSection):
    """The peak, times gamma whenever `patience` evaluations in a row showed no gain; those of warm-up do not count."""

    name: Literal["reduce_on_plateau"] = "reduce_on_plateau"
    metric: str = Field(default="val/loss", description="Watched: `val/loss` or `val/<task>/<metric>`.")
    mode: Mode = Field(default="min", description="min: lower is better; max: higher is better.")
    gamma: float = Field(default=0.1, gt=0, lt=1, description="What is left of the rate each time.")
    patience: int = Field(default=2, ge=1, description="Evaluations without gain before the rate falls.")
    improve_by: float = Field(default=1e-4, ge=0, description="Least gain that counts, relative to the best so far.")
    floor: float = Field(default=0.0, ge=0, le=1, description="Least factor.")

    def watched_metrics(self, tasks: Sequence[str]) -> list[tuple[str, str]]:  # noqa: ARG002 - as in every such config
        """The metric."""
        return [("metric", self.metric)]

    def build(self, optimizer: torch.optim.Optimizer, *, total: int, steps_per_epoch: int) -> LrSchedule:
        """The schedule over `total` optimizer steps."""
        span = self.span(total, steps_per_epoch)
        drops = Drops(
            metric=self.metric,
            mode=self.mode,
            gamma=self.gamma,
            patience=self.patience,
            improve_by=self.improve_by,
            floor=self.floor,
        )
        return LrSchedule(optimizer, factor=self.factor(span), warmup=span.warmup, watcher=drops)


class Drops:
    """`factor` is 1, and becomes max(gamma factor, floor) at the `patience`-th evaluation in a row without a gain.

    The count then begins anew; the best so far stays the mark to beat. What is not a number is no gain.
    """

    def __init__(self, *, metric: str, mode: Mode, gamma: float, patience: int, improve_by: float, floor: float) -> None:
        self.metric, self.gamma, self.patience, self.floor = metric, gamma, patience, floor
        self.factor = 1.0
        self._plateau = Plateau(improve_by, mode)

    def observe(self, report: EvalReport) -> None:
        """Hear an evaluation. Errors: ConfigError where it lacks the metric."""
        self._plateau.update(metric_in(report, self.metric, where="training.schedule.metric"))
        if self._plateau.waited >= self.patience:
            self.factor = max(self.gamma * self.factor, self.floor)
            self._plateau.waited = 0

    def state_dict(self) -> dict[str, Any]:
        """The factor, and how long nothing was gained."""
        return {"factor": self.factor, "plateau": self._plateau.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.factor = float(state["factor"])
        self._plateau.load_state_dict(state["plateau"])
