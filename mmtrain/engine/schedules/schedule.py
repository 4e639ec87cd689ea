"""The learning rate of every group over a run: its peak times a factor of the finished steps."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from mmtrain.curriculum.reports import EvalReport

Factor = Callable[[int], float]


class Watcher(Protocol):
    """A factor besides, that changes with evaluations."""

    factor: float

    def observe(self, report: EvalReport) -> None:
        """Hear an evaluation."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, JSON-able."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""


class LrSchedule:
    """Sets `lr` of every group to its peak, the `lr` that it was built with, times `factor(finished steps)`.

    The step after `finished` ones is taken at factor(finished). A `watcher` multiplies a factor of its own; it does not
    hear evaluations made in the first `warmup` steps.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, factor: Factor, warmup: int = 0, watcher: Watcher | None = None
    ) -> None:
        self._optimizer, self._factor, self._warmup, self._watcher = optimizer, factor, warmup, watcher
        self.finished = 0
        self._apply()

    def step(self) -> None:
        """A step is finished; one that the loss scaler skipped is not."""
        self.finished += 1
        self._apply()

    def observe(self, report: EvalReport) -> None:
        """Hear an evaluation; the next step is taken at what follows from it."""
        if self._watcher is not None and self.finished >= self._warmup:
            self._watcher.observe(report)
            self._apply()

    def state_dict(self) -> dict[str, Any]:
        """Finished steps, and what the watcher knows."""
        return {"finished": self.finished, "watcher": self._watcher.state_dict() if self._watcher is not None else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.finished = int(state["finished"])
        if self._watcher is not None:
            self._watcher.load_state_dict(state["watcher"])
        self._apply()

    def _apply(self) -> None:
        factor = self._factor(self.finished) * (self._watcher.factor if self._watcher is not None else 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
