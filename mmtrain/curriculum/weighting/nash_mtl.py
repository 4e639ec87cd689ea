"""The update is the tasks' bargain: the one by which the product of their gains is largest."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.gradients import Combined, GradientSection, Over, require_solvers


class NashMtlConfig(GradientSection):
    """Nash bargaining.

    Needs the extra `solvers`: cvxpy (Apache licence) and ecos (GPL 3).
    """

    name: Literal["nash_mtl"] = "nash_mtl"
    max_norm: float = Field(default=1.0, ge=0, description="Largest norm of the update; 0 = any.")
    max_iters: int = Field(default=20, ge=1, description="Most iterations towards the bargain in a step.")

    def build(self, setting: Setting) -> "NashMtl":  # noqa: ARG002
        """Errors: ConfigError where the solvers are missing."""
        require_solvers("nash_mtl", ["cvxpy", "ecos"], note=" (ecos has wheels up to Python 3.12)")
        return NashMtl(max_norm=self.max_norm, max_iters=self.max_iters, over=self.over)


class NashMtl:
    """The update is sum_i a_i g_i, a > 0, with G G^T a = 1 / a; its norm is cut at `max_norm`, which sets its scale.

    The search for a starts at that of the step before, if that had the same tasks, else at 1: this is all the state. So
    each step has an aggregator of its own, and what torchjd's keeps beside a is never older than the step.
    Source: Navon et al. 2022, "Multi-Task Learning as a Bargaining Game", algorithm 1; torchjd's NashMTL.
    """

    def __init__(self, *, max_norm: float = 1.0, max_iters: int = 20, over: Over = "representation") -> None:
        self.over, self._max_norm, self._max_iters = over, max_norm, max_iters
        self._last: dict[str, float] = {}

    def weights(self, step: int, active: Sequence[str]) -> None:
        """Unknown before the gradients are."""

    @torch.no_grad()
    def combine(self, gradients: Tensor, losses: Mapping[str, Tensor], *, step: int) -> Combined:  # noqa: ARG002
        """`gradients` [K, P] -> the bargain and its weights."""
        if len(gradients) == 1:
            return Combined(gradients[0], {task: gradients.new_ones(()) for task in losses})
        from torchjd.aggregation import NashMTL

        weighting = NashMTL(n_tasks=len(losses), max_norm=self._max_norm, optim_niter=self._max_iters).weighting
        if list(self._last) == list(losses):
            weighting.prvs_alpha = np.array(list(self._last.values()))
        # a task without any gradient has no bargain: torchjd then keeps the last one
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            warnings.filterwarnings("ignore", message="You are solving a parameterized problem that is not DPP")
            weights: Tensor = weighting(gradients)
        self._last = dict(zip(losses, weighting.prvs_alpha.tolist(), strict=True))
        return Combined(weights @ gradients, dict(zip(losses, weights, strict=True)))

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Reports change nothing; the step's gradients do."""

    def state_dict(self) -> dict[str, Any]:
        """The last bargain, before its norm was cut: a by task."""
        return dict(self._last)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._last = dict(state)
