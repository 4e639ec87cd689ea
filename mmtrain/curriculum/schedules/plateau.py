"""Whether a validation metric still improves, and whether it has fallen behind its best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.reports import EvalReport, metric_in
from mmtrain.section import Section

Mode = Literal["min", "max"]


class WatchedSection(Section):
    """The fields of a config that watches one validation metric of every task."""

    metric: str = Field(default="loss", description="Watched per task: `val/<task>/<metric>` of the evaluations.")
    mode: Mode = Field(default="min", description="min: lower is better; max: higher is better.")

    def watched_metrics(self, tasks: Sequence[str]) -> list[tuple[str, str]]:
        """The metric of every task."""
        return [("metric", f"val/{task}/{self.metric}") for task in tasks]


def watched(report: EvalReport, task: str, metric: str, *, where: str) -> float:
    """The metric of a task in an evaluation. Errors: ConfigError where the evaluations have none of that name."""
    return metric_in(report, f"val/{task}/{metric}", where=f"{where}: metric {metric}")


@dataclass
class Plateau:
    """Follows one metric over evaluations.

    `best`: the best value ever. `mark`: the last value that counted as a gain, which is one that betters the mark before
    it by more than `improve_by` of its size; so slow gains add up to one. `waited`: evaluations since. What is not a
    number is no gain.
    """

    improve_by: float
    mode: Mode
    best: float | None = None
    mark: float | None = None
    waited: int = 0

    def update(self, value: float) -> None:
        """Hear an evaluation."""
        self.note(value)
        if isfinite(value) and (self.mark is None or self._better_by(value, self.mark) > self.improve_by * abs(self.mark)):
            self.mark, self.waited = value, 0
        else:
            self.waited += 1

    def note(self, value: float) -> None:
        """Hear an evaluation that is not waited for: it may be the best."""
        if isfinite(value) and (self.best is None or self._better_by(value, self.best) > 0):
            self.best = value

    def fallen(self, value: float, by: float) -> bool:
        """The value is worse than the best by more than `by` of the best's size."""
        return self.best is not None and self._better_by(self.best, value) > by * abs(self.best)

    def restart(self, value: float) -> None:
        """Gains count from this value on; the best stays known."""
        self.mark, self.waited = value, 0

    def _better_by(self, value: float, other: float) -> float:
        return other - value if self.mode == "min" else value - other

    def state_dict(self) -> dict[str, Any]:
        """Best, mark and waited."""
        return {"best": self.best, "mark": self.mark, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.best, self.mark, self.waited = state["best"], state["mark"], int(state["waited"])


def no_gain(improve_by: float, patience: int) -> str:
    """Why a task counts as converged."""
    return f"no gain over {percent(improve_by)} in {patience} evaluation{'s' if patience > 1 else ''}"


def percent(part: float) -> str:
    """0.001 as 0.1 %."""
    return f"{100 * part:g} %"
