"""Every task is trained all the time."""

from typing import Literal

from mmtrain.curriculum.decision import Names
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.schedules.protocol import Events, Stateless, TaskRule
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class AllConfig(Section):
    """No task is ever left out."""

    name: Literal["all"] = "all"

    def build(self, setting: Setting) -> "All":
        """The schedule of this stage."""
        return All(tasks=tuple(setting.tasks))


class All(Stateless):
    """All `tasks`, at every step."""

    def __init__(self, *, tasks: Names) -> None:
        self._tasks = tasks

    def decide(self, step: int) -> TaskRule:  # noqa: ARG002
        """The same rule at every step."""
        return lambda step: self._tasks  # noqa: ARG005 - a TaskRule

    def observe(self, report: WindowReport | EvalReport) -> Events:  # noqa: ARG002
        """Reports change nothing."""
        return ()
