"""Dynamic Stop-and-Go: a task that no longer improves is trained only now and then, until it falls behind."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.schedules.plateau import Mode, Plateau, WatchedSection, no_gain, percent, watched
from mmtrain.curriculum.schedules.protocol import Events, TaskRule
from mmtrain.curriculum.setting import Setting


class StopAndGoConfig(WatchedSection):
    """Tasks stop where their validation no longer improves, and go again where it falls."""

    name: Literal["stop_and_go"] = "stop_and_go"
    gap: int = Field(default=4, ge=2, description="A stopped task is trained at one step in this many.")
    patience: int = Field(default=2, ge=1, description="Evaluations without a gain until a task stops.")
    improve_by: float = Field(default=0.001, ge=0, lt=1, description="The least gain, as a part of the metric's value.")
    restart_below: float = Field(default=0.005, ge=0, lt=1, description="A fall from the best of this part sets it going.")

    def build(self, setting: Setting) -> "StopAndGo":
        """The schedule of this stage."""
        return StopAndGo(
            tasks=tuple(setting.tasks),
            gap=self.gap,
            patience=self.patience,
            improve_by=self.improve_by,
            restart_below=self.restart_below,
            metric=self.metric,
            mode=self.mode,
        )


class StopAndGo:
    """Active at step i: the tasks in go mode, and where i mod gap = 0 those in stop mode too.

    go -> stop: `patience` evaluations have brought no gain over `improve_by` (see `Plateau`). stop -> go: an evaluation
    is worse than the task's best by more than `restart_below` of it; gains count from there on. Both are judged by
    validation, never by the training loss. Where every task is stopped, all are trained at every step: what counts is how
    often they are trained beside each other, and a step without any would be none.
    Source: Lu et al. 2020, "12-in-1: Multi-Task Vision and Language Representation Learning", Dynamic Stop-and-Go (there
    the gap is 4, the gain 0.1 % in 2 epochs, the fall 0.5 %).
    """

    def __init__(
        self,
        *,
        tasks: Names,
        gap: int = 4,
        patience: int = 2,
        improve_by: float = 0.001,
        restart_below: float = 0.005,
        metric: str = "loss",
        mode: Mode = "min",
    ) -> None:
        self.tasks, self.gap, self.patience, self.improve_by = tasks, gap, patience, improve_by
        self.restart_below, self.metric = restart_below, metric
        self._plateaus = {task: Plateau(improve_by, mode) for task in tasks}
        self._stopped: set[str] = set()

    def decide(self, step: int) -> TaskRule:  # noqa: ARG002
        """The tasks going, and at every `gap`-th step all of them."""
        going = tuple(task for task in self.tasks if task not in self._stopped)
        if not going:
            return lambda step: self.tasks  # noqa: ARG005 - a TaskRule
        return lambda step: going if step % self.gap else self.tasks

    def observe(self, report: WindowReport | EvalReport) -> Events:
        """Hear an evaluation of every task; windows change nothing."""
        if isinstance(report, WindowReport):
            return ()
        events = []
        for task, plateau in self._plateaus.items():
            value = watched(report, task, self.metric, where="schedule stop_and_go")
            if task in self._stopped:
                plateau.note(value)
                if plateau.fallen(value, self.restart_below):
                    events.append(self._restart(task, value))
                continue
            plateau.update(value)
            if plateau.waited >= self.patience:
                self._stopped.add(task)
                events.append(f"{task}: go -> stop, {no_gain(self.improve_by, self.patience)}")
        return tuple(events)

    def _restart(self, task: str, value: float) -> str:
        plateau = self._plateaus[task]
        self._stopped.remove(task)
        plateau.restart(value)
        return (
            f"{task}: stop -> go, {self.metric} {value:.4g} is over {percent(self.restart_below)} worse "
            f"than its best {plateau.best:.4g}"
        )

    def state_dict(self) -> dict[str, Any]:
        """By task: whether it is stopped, and how its metric stands."""
        return {task: {"stopped": task in self._stopped} | self._plateaus[task].state_dict() for task in self.tasks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._stopped = {task for task in self.tasks if state[task]["stopped"]}
        for task, plateau in self._plateaus.items():
            plateau.load_state_dict(state[task])
