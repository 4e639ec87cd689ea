"""Loss weights are learned until every task's gradient is as large as its rate of learning asks for."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.gradients import Combined, GradientSection, Over
from mmtrain.curriculum.weighting.protocol import normalized_to_count

_SMALLEST = 1e-3  # of a weight: below 0 its task would unlearn
_EPSILON = 1e-12


class GradnormConfig(GradientSection):
    """Weights with an Adam of their own."""

    name: Literal["gradnorm"] = "gradnorm"
    alpha: float = Field(default=1.5, ge=0, le=10, description="How strongly tasks that learn slowly are helped; 0 = not.")
    lr: float = Field(default=0.025, gt=0, le=1, description="Learning rate of the weights, the same in all of the run.")

    def build(self, setting: Setting) -> "Gradnorm":
        return Gradnorm(tasks=setting.tasks, alpha=self.alpha, lr=self.lr, over=self.over)


class Gradnorm:
    """The update is sum_t w_t g_t; then w moves down the gradient of sum_t |w_t |g_t| - target_t|, the targets held fixed.

    target_t = mean_i(w_i |g_i|) r_t^alpha, r_t = (L_t / L_t(0)) / mean_i(L_i / L_i(0)) over the active tasks with a label in
    the global batch; w of the others stands still. L_t(0) is the loss of the first step that labelled t. All w are 1 at the
    start; after each move none is below 0.001 (the paper has no bound) and they are scaled in place to sum to their number.
    Among active tasks w is scaled to sum to the number of those.
    Source: Chen et al. 2018, "GradNorm", equations 1 and 2, algorithm 1; the paper's W is here what `over` names.
    """

    def __init__(
        self, *, tasks: Sequence[str], alpha: float = 1.5, lr: float = 0.025, over: Over = "representation"
    ) -> None:
        self.tasks, self.alpha, self.over = tuple(tasks), alpha, over
        self.module = nn.ParameterList(torch.ones(()) for _ in tasks)  # w, one a task: one without gradient does not move
        self._optimizer = torch.optim.Adam(self.module.parameters(), lr=lr)
        self._initial: dict[str, float] = {}
        self._pending: tuple[Tensor, dict[str, float]] | None = None  # gradient norms [K] and losses of the step under way

    def weights(self, step: int, active: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """As they stand."""
        with torch.no_grad():
            known = dict(zip(self.tasks, torch.stack(list(self.module)).tolist(), strict=True))
        return normalized_to_count({task: known[task] for task in active})

    def combine(self, gradients: Tensor, losses: Mapping[str, Tensor], *, step: int) -> Combined:  # noqa: ARG002
        """`gradients` [K, P] -> their weighted sum."""
        used = self._scaled(list(losses)).detach().to(gradients.dtype)
        by_task = dict(zip(losses, used, strict=True))
        self._pending = gradients.norm(dim=1), {task: loss.item() for task, loss in losses.items()}
        return Combined(used @ gradients, by_task, heads=by_task)

    def learn(self) -> None:
        """One step of the weights after an update that was made."""
        if self._pending is None:  # no task had a label
            return
        (norms, losses), self._pending = self._pending, None
        if all(map(isfinite, losses.values())):
            self._initial = losses | self._initial
            if len(losses) > 1:
                self._learn(self._scaled(list(losses)), norms, losses)

    def _scaled(self, tasks: Sequence[str]) -> Tensor:
        """w [K] of `tasks`, scaled to sum to their number, in the graph of the parameters."""
        own = dict(zip(self.tasks, self.module, strict=True))
        chosen = torch.stack([own[task] for task in tasks])
        return chosen * (len(tasks) / chosen.detach().sum())

    def _learn(self, weights: Tensor, norms: Tensor, losses: Mapping[str, float]) -> None:
        ratios = norms.new_tensor([loss / max(self._initial[task], _EPSILON) for task, loss in losses.items()])
        rates = ratios / ratios.mean().clamp(min=_EPSILON)
        sizes = weights * norms
        targets = (sizes.mean() * rates**self.alpha).detach()
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward((sizes - targets).abs().sum())
        self._optimizer.step()
        with torch.no_grad():
            total = torch.stack([weight.clamp_(min=_SMALLEST) for weight in self.module]).sum()
            for weight in self.module:
                weight.mul_(len(self.tasks) / total)

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Reports change nothing; the step's gradients do."""

    def state_dict(self) -> dict[str, Any]:
        """w, first losses and Adam's averages, by task."""
        states = [self._optimizer.state.get(weight, {}) for weight in self.module]
        return {
            "weights": {task: weight.item() for task, weight in zip(self.tasks, self.module, strict=True)},
            "initial": dict(self._initial),
            "adam": {
                task: {key: value.item() for key, value in state.items()}
                for task, state in zip(self.tasks, states, strict=True)
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._initial = dict(state["initial"])
        whole = self._optimizer.state_dict()
        whole["state"] = {
            number: {key: torch.tensor(value) for key, value in state["adam"][task].items()}
            for number, task in enumerate(self.tasks)
            if state["adam"][task]
        }
        self._optimizer.load_state_dict(whole)
        with torch.no_grad():
            for task, weight in zip(self.tasks, self.module, strict=True):
                weight.fill_(state["weights"][task])
