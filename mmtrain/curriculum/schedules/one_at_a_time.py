"""One task after the other."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.schedules.plateau import Mode, Plateau, WatchedSection, no_gain, watched
from mmtrain.curriculum.schedules.protocol import Events, TaskRule
from mmtrain.curriculum.schedules.staged import Phase, Staged
from mmtrain.curriculum.setting import Setting, Unit, check_complete
from mmtrain.errors import ConfigError

_WHERE = "schedule one_at_a_time"


class OneAtATimeConfig(WatchedSection):
    """Each task until its validation stops improving, or for a given time."""

    name: Literal["one_at_a_time"] = "one_at_a_time"
    order: tuple[str, ...] | None = Field(default=None, description="Every task once; null: in the order of the streams.")
    each: float | None = Field(default=None, gt=0, description="Time for each task, in `unit`; null: until it converges.")
    unit: Unit = Field(default="epochs", description="What `each` counts: epochs or optimizer steps.")
    patience: int = Field(default=2, ge=1, description="Evaluations without a gain until a task counts as converged.")
    improve_by: float = Field(default=0.001, ge=0, lt=1, description="The least gain, as a part of the metric's value.")

    def check_names(self, streams: Sequence[str], tasks: Sequence[str]) -> None:  # noqa: ARG002 - as in every such config
        """Errors: ConfigError where `order` does not name every task."""
        if self.order is not None:
            check_complete(f"{_WHERE}: order", "task", self.order, tasks)

    def build(self, setting: Setting) -> "OneAtATime | Staged":
        """The schedule of this stage. Errors: ConfigError where `order` is not every task once."""
        order = tuple(setting.tasks) if self.order is None else self.order
        self.check_names(setting.stream_names, setting.tasks)
        if len(set(order)) < len(order):
            raise ConfigError(f"{_WHERE}: order names a task twice ({', '.join(order)}); write each once")
        if self.each is not None:
            starts = [setting.steps(self.each * number, self.unit) for number in range(len(order))]
            if any(before >= after for before, after in pairwise(starts)):
                raise ConfigError(f"{_WHERE}: each {self.each} {self.unit} is not one optimizer step; write more")
            phases = [
                Phase(start, stop, (task,)) for start, stop, task in zip(starts, [*starts[1:], None], order, strict=True)
            ]
            return Staged(tasks=tuple(setting.tasks), phases=phases)
        return OneAtATime(
            order=order, metric=self.metric, mode=self.mode, patience=self.patience, improve_by=self.improve_by
        )


class OneAtATime:
    """Trains a task of `order` until `patience` evaluations have brought no gain, then the next; the last to the end.

    What a gain is: see `Plateau`. A task's first evaluation after its turn began is what the next are compared with.
    """

    def __init__(self, *, order: Names, metric: str, mode: Mode, patience: int, improve_by: float) -> None:
        self.order, self.metric, self.mode, self.patience, self.improve_by = order, metric, mode, patience, improve_by
        self._turn, self._plateau = 0, Plateau(improve_by, mode)

    def decide(self, step: int) -> TaskRule:  # noqa: ARG002
        """The task whose turn it is; the same for every step of the window."""
        task = self.order[self._turn]
        return lambda step: (task,)  # noqa: ARG005 - a TaskRule

    def observe(self, report: WindowReport | EvalReport) -> Events:
        """Hear an evaluation of the task in turn; windows change nothing."""
        if isinstance(report, WindowReport) or self._turn == len(self.order) - 1:
            return ()
        task = self.order[self._turn]
        self._plateau.update(watched(report, task, self.metric, where=_WHERE))
        if self._plateau.waited < self.patience:
            return ()
        self._turn, self._plateau = self._turn + 1, Plateau(self.improve_by, self.mode)
        return (f"{task} -> {self.order[self._turn]}, {no_gain(self.improve_by, self.patience)}",)

    def state_dict(self) -> dict[str, Any]:
        """Whose turn it is, and how its metric stands."""
        return {"turn": self._turn, "plateau": self._plateau.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._turn = int(state["turn"])
        self._plateau.load_state_dict(state["plateau"])
