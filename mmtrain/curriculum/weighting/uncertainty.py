"""Every task's loss is divided by a noise that the run learns with the model."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class UncertaintyConfig(Section):
    """Homoscedastic uncertainty, learned by the run's optimizer in a parameter group of its own, without decay."""

    name: Literal["uncertainty"] = "uncertainty"
    lr: float = Field(default=1e-3, gt=0, description="Peak learning rate of the log variances.")

    def build(self, setting: Setting) -> "Uncertainty":
        regressions = [task for task in setting.tasks if setting.kinds.get(task) == "regression"]
        return Uncertainty(tasks=setting.tasks, regressions=regressions, lr=self.lr)


class Uncertainty:
    """loss = sum_t c_t exp(-s_t) L_t + s_t / 2, s_t = log sigma_t^2, 0 at the start; c = 1/2 for regression, else 1.

    The sum is over the active tasks with a label in the global batch; s of the others stands still. The weights c exp(-s)
    are likelihoods' own and not scaled to any sum. L_t is the task's own loss: the formula for regression is that of squared
    errors, the others are weighed by it all the same.

    The losses' gradients are taken with the weights as they stand, and those of s with the losses as they stand, summed over
    processes and micro-batches: together the gradient of the one formula, and the same on every process.
    Source: Kendall, Gal and Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses", equations 5, 7 and 10.
    """

    def __init__(self, *, tasks: Sequence[str], regressions: Collection[str] = (), lr: float = 1e-3) -> None:
        self.lr = lr
        self._factors = {task: 0.5 if task in regressions else 1.0 for task in tasks}
        self.module = nn.ParameterList(torch.zeros(()) for _ in tasks)  # s, one a task: one without gradient does not move

    def weights(self, step: int, active: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """As the log variances stand."""
        with torch.no_grad():
            precisions = torch.stack(list(self.module)).neg().exp().tolist()
        known = {task: factor * value for (task, factor), value in zip(self._factors.items(), precisions, strict=True)}
        return {task: known[task] for task in active}

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The sum above, differentiable in s."""
        variances = dict(zip(self._factors, self.module, strict=True))
        terms = [
            self._factors[task] * torch.exp(-variances[task]) * loss + variances[task] / 2 for task, loss in losses.items()
        ]
        return torch.stack(terms).sum()

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Reports change nothing; the step's losses do."""

    def state_dict(self) -> dict[str, Any]:
        """s by task. The optimizer's part is saved with the optimizer."""
        return {task: value.item() for task, value in zip(self._factors, self.module, strict=True)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for task, value in zip(self._factors, self.module, strict=True):
                value.fill_(state[task])
