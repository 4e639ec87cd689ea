"""A warm-up with all tasks ranks them; then they are added one after the other."""

from collections.abc import Mapping
from math import inf, isfinite
from statistics import fmean
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.schedules.plateau import Mode, WatchedSection, watched
from mmtrain.curriculum.schedules.protocol import Events, TaskRule
from mmtrain.curriculum.setting import Setting, Unit


class AssessedConfig(WatchedSection):
    """Tasks by their difficulty, as a validation metric shows it after a warm-up."""

    name: Literal["assessed"] = "assessed"
    warmup: float = Field(default=1.0, gt=0, description="Time with all tasks; the next evaluation ranks them. In `unit`.")
    every: float = Field(default=1.0, gt=0, description="Time from one task's start to the next one's. In `unit`.")
    unit: Unit = Field(default="epochs", description="What `warmup` and `every` count: epochs or optimizer steps.")
    order: Literal["easy_to_hard", "hard_to_easy"] = Field(default="easy_to_hard", description="Which tasks come first.")

    def build(self, setting: Setting) -> "Assessed":
        """The schedule of this stage."""
        return Assessed(
            tasks=tuple(setting.tasks),
            warmup=setting.steps(self.warmup, self.unit),
            every=max(setting.steps(self.every, self.unit), 1),
            metric=self.metric,
            mode=self.mode,
            hardest_first=self.order == "hard_to_easy",
            references=_chances(setting) if self.metric == "loss" else {},
        )


class Assessed:
    """All tasks until an evaluation at step s >= `warmup` ranks them; from then on the first 1 + (i - s) // every.

    `references`: task -> what its value is divided by before tasks are compared, 1 where not named; for the loss the
    config gives the loss of a constant prediction, so that two classes and ten can be compared. A value that is not a
    number ranks as the hardest. Ties keep the stage's order.
    """

    def __init__(
        self,
        *,
        tasks: Names,
        warmup: int,
        every: int,
        metric: str = "loss",
        mode: Mode = "min",
        hardest_first: bool = False,
        references: Mapping[str, float] | None = None,
    ) -> None:
        self.tasks, self.warmup, self.every, self.metric, self.mode = tasks, warmup, every, metric, mode
        self.hardest_first, self._references = hardest_first, dict(references or {})
        self._ranking: Names = ()  # empty until the warm-up's end
        self._ranked_at = 0

    def decide(self, step: int) -> TaskRule:  # noqa: ARG002
        """All tasks, or the first of the ranking; their number goes by the step."""
        if not self._ranking:
            return lambda step: self.tasks  # noqa: ARG005 - a TaskRule
        ranking, ranked_at = self._ranking, self._ranked_at

        def first(step: int) -> Names:
            chosen = ranking[: 1 + max(step - ranked_at, 0) // self.every]
            return tuple(task for task in self.tasks if task in chosen)

        return first

    def observe(self, report: WindowReport | EvalReport) -> Events:
        """Rank at the first evaluation after the warm-up; name the tasks that joined in a window."""
        if isinstance(report, WindowReport):
            joined = [(self._ranked_at + n * self.every, task) for n, task in enumerate(self._ranking) if n]
            return tuple(f"step {at}: {task} joins" for at, task in joined if report.first_step <= at < report.step)
        if self._ranking or report.step < self.warmup:
            return ()
        values = {task: watched(report, task, self.metric, where="schedule assessed") for task in self.tasks}
        self._ranking, self._ranked_at = self._rank(values), report.step
        shown = ", ".join(f"{task} ({self.metric} {values[task]:.4g})" for task in self._ranking)
        return (f"{'hardest' if self.hardest_first else 'easiest'} first: {shown}; {self._ranking[0]} alone at first",)

    def _rank(self, values: Mapping[str, float]) -> Names:
        def difficulty(task: str) -> float:
            value = values[task] / self._references.get(task, 1.0)
            if not isfinite(value):
                return inf
            return value if self.mode == "min" else -value

        sign = -1 if self.hardest_first else 1
        return tuple(sorted(self.tasks, key=lambda task: sign * difficulty(task)))

    def state_dict(self) -> dict[str, Any]:
        """The ranking, empty before it is made, and its step."""
        return {"ranking": list(self._ranking), "ranked_at": self._ranked_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._ranking, self._ranked_at = tuple(state["ranking"]), int(state["ranked_at"])


def _chances(setting: Setting) -> dict[str, float]:
    """Task -> mean over its streams of a constant prediction's loss, where that is known and above 0."""
    found = {task: [stream.chance[task] for stream in setting.streams if task in stream.chance] for task in setting.tasks}
    return {task: fmean(losses) for task, losses in found.items() if losses and fmean(losses) > 0}
