"""Sets of tasks with written beginnings and ends."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from mmtrain.curriculum.decision import Names
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.schedules.protocol import Events, Stateless, TaskRule
from mmtrain.curriculum.setting import Setting, Unit, check_known
from mmtrain.errors import ConfigError
from mmtrain.section import Section


class PhaseConfig(Section):
    """Some tasks and when they are trained."""

    tasks: tuple[str, ...] = Field(min_length=1, description="Tasks of the stage.")
    start: float = Field(default=0.0, ge=0, description="Time since the stage began, in the schedule's `unit`.")
    end: float | None = Field(
        default=None, gt=0, description="The first moment after, in the same; null: to the end of the stage."
    )


class StagedConfig(Section):
    """A task is active while one of the phases that name it is."""

    name: Literal["staged"] = "staged"
    unit: Unit = Field(default="epochs", description="What `start` and `end` count: epochs or optimizer steps.")
    phases: tuple[PhaseConfig, ...] = Field(description="They may overlap, and leave no time without a task.")

    def check_names(self, streams: Sequence[str], tasks: Sequence[str]) -> None:  # noqa: ARG002 - as in every such config
        """Errors: ConfigError for an unknown task."""
        for number, phase in enumerate(self.phases):
            check_known(f"schedule staged: phases.{number}", "task", phase.tasks, tasks)

    def build(self, setting: Setting) -> "Staged":
        """The schedule of this stage. Errors: ConfigError for unknown tasks, empty phases, or a time without a task."""
        self.check_names(setting.stream_names, setting.tasks)
        phases = []
        for number, phase in enumerate(self.phases):
            where = f"schedule staged: phases.{number}"
            start = setting.steps(phase.start, self.unit)
            stop = None if phase.end is None else setting.steps(phase.end, self.unit)
            if stop is not None and stop <= start:
                raise ConfigError(f"{where}: it starts at step {start} and ends at step {stop}; end it later")
            phases.append(Phase(start, stop, phase.tasks))
        _check_covered(phases)
        return Staged(tasks=tuple(setting.tasks), phases=phases)


class Phase(NamedTuple):
    """Tasks active at the steps start .. stop - 1; `stop` None = without end."""

    start: int
    stop: int | None
    tasks: Names


class Staged(Stateless):
    """Active at step i: the tasks of all phases with start <= i < stop, in the order of `tasks`, the stage's.

    The phases leave no step without a task.
    """

    def __init__(self, *, tasks: Names, phases: Sequence[Phase]) -> None:
        self._tasks, self._phases = tasks, tuple(phases)

    def decide(self, step: int) -> TaskRule:  # noqa: ARG002
        """The same rule at every step; the phases go by the step."""
        return self._active

    def observe(self, report: WindowReport | EvalReport) -> Events:
        """Reports change nothing; names the borders between phases that lay in a window."""
        if isinstance(report, EvalReport):
            return ()
        borders = {border for phase in self._phases for border in phase[:2] if border}
        inside = sorted(border for border in borders if report.first_step <= border < report.step)
        changes = [(border, self._active(border - 1), self._active(border)) for border in inside]
        return tuple(f"step {at}: {', '.join(old)} -> {', '.join(new)}" for at, old, new in changes if old != new)

    def _active(self, step: int) -> Names:
        now = {
            task for start, stop, tasks in self._phases if start <= step and (stop is None or step < stop) for task in tasks
        }
        return tuple(task for task in self._tasks if task in now)


def _check_covered(phases: Sequence[Phase]) -> None:
    covered = 0
    for phase in sorted(phases, key=lambda phase: phase.start):
        if phase.start > covered:
            break
        if phase.stop is None:
            return
        covered = max(covered, phase.stop)
    raise ConfigError(
        f"schedule staged: no phase trains a task at step {covered}. Let one start there, or leave out the `end` of one "
        "that starts before, so that it lasts to the end of the stage"
    )
