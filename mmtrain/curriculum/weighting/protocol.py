"""What a weighting of losses offers."""

from collections.abc import Mapping
from typing import Any, Protocol

from mmtrain.curriculum.reports import EvalReport, WindowReport


class Weighting(Protocol):
    """loss = sum over tasks of weight x mean task loss. The weights are known before the step, the same on all processes."""

    def weights(self, step: int) -> dict[str, float]:
        """Task -> weight for the step after `step` finished ones, for every task of the stage. Pure."""

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Hear what a window or an evaluation showed."""

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""


def normalized_to_count(raw: Mapping[str, float]) -> dict[str, float]:
    """Weights that sum to the number of tasks, so that the size of a step does not depend on the weighting."""
    total = sum(raw.values())
    return {task: len(raw) * value / total for task, value in raw.items()}
