"""What every schedule is: it hears reports and answers with a rule that names the tasks in play at each step."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mmtrain.curriculum.decision import Names
from mmtrain.curriculum.reports import EvalReport, WindowReport

TaskRule = Callable[[int], Names]  # step -> active tasks, at least one, in the stage's order. Pure.
Events = tuple[str, ...]  # changes of state, in words, for curriculum.jsonl


class Schedule(Protocol):
    """Decides which tasks are trained now. Deciding never advances it; only reports do. Its state is JSON-able and small."""

    def decide(self, step: int) -> TaskRule:
        """The rule for the window that starts at `step`; later reports do not change a rule already given."""

    def observe(self, report: WindowReport | EvalReport) -> Events:
        """Learn what the training or an evaluation showed, and say what changes by it, or changed in this window."""

    def state_dict(self) -> dict[str, Any]:
        """All that its next decisions depend on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""


class Stateless:
    """The part of a schedule that goes by the step alone."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""
