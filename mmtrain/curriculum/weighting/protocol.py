"""What a weighting offers: one of four ways from the tasks' losses to one update."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.weighting.gradients import Combined, Over


class Weighting(Protocol):
    """loss = sum over tasks of weight x mean task loss. The weights are known before the step, the same on all processes."""

    def weights(self, step: int, active: Sequence[str]) -> dict[str, float] | None:
        """Task -> weight of each active task, at least one, for the step after `step` finished ones. Pure.

        None where the weights come out of the step itself.
        """

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Hear what a window or an evaluation showed."""

    def state_dict(self) -> dict[str, Any]:
        """JSON-able, and true at any step: what learns in every step says where it stands now."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""


@runtime_checkable
class Learned(Weighting, Protocol):
    """Its weights depend on parameters in the run's optimizer, which learn from the losses of every step."""

    module: nn.Module  # the parameters, in a group "weighting" without decay
    lr: float  # peak learning rate of the group

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """What the step minimizes, given the detached losses over the global batch; its gradient reaches `module` alone."""


@runtime_checkable
class ByLosses(Weighting, Protocol):
    """Its weights are functions of the losses of the step itself."""

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Task -> weight, given the detached losses over the global batch of the active tasks that are labelled there."""

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """What the step minimizes."""


@runtime_checkable
class ByGradients(Weighting, Protocol):
    """Makes one update out of the tasks' gradients with respect to what they share."""

    over: Over

    def combine(self, gradients: Tensor, losses: Mapping[str, Tensor], *, step: int) -> Combined:
        """One update out of `gradients` [K, P], finite, a row for each task of `losses`, in that order.

        Both are of the global batch, of the active tasks that are labelled in it; the same on every process, and so must
        be the answer.
        """

    def learn(self) -> None:
        """The update that was last combined has been made: learn from it. Not called where the step was left out."""


def normalized_to_count(raw: Mapping[str, float]) -> dict[str, float]:
    """Weights that sum to the number of tasks, so that the size of a step does not depend on the weighting."""
    total = sum(raw.values())
    return {task: len(raw) * value / total for task, value in raw.items()}
