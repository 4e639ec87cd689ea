"""What all regression losses share: standardized targets, a comparable report, predictions in original units."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from mmtrain.data.schema import TaskKind, TaskSchema
from mmtrain.errors import DataError
from mmtrain.objectives.losses.task_loss import Labels, check_kind, check_shapes, check_values, full_precision

STANDARDIZE = "The head predicts (y - mean) / std of the training labels; false: y itself."


@dataclass(frozen=True, kw_only=True)
class RegressionLoss:
    """The TaskLoss of a regression task.

    `error(predicted [B], targets [B]) -> [B]` is minimized, in standardized units where `standardize` holds, else in
    original ones. The reported loss is always the squared error over the variance of the training labels, whatever
    `error` and `standardize` are, so that runs compare; predicting the mean scores 1 on the training labels.
    """

    error: Callable[[Tensor, Tensor], Tensor]
    mean: float
    std: float
    standardize: bool = True
    kind: TaskKind = field(default="regression", init=False)

    def training(self, logits: Tensor, targets: Tensor) -> Tensor:
        check_shapes(logits, targets, num_dims=1, kind="regression")
        logits = full_precision(logits)
        targets = targets.to(logits.dtype)
        return self.error(logits, (targets - self.mean) / self.std if self.standardize else targets)

    def reported(self, logits: Tensor, targets: Tensor) -> Tensor:
        check_shapes(logits, targets, num_dims=1, kind="regression")
        logits = full_precision(logits)
        # the head's own scale, not prediction() - targets: a large mean would cost float32 its digits
        scaled = logits if self.standardize else (logits - self.mean) / self.std
        return (scaled - (targets.to(logits.dtype) - self.mean) / self.std).square()

    def prediction(self, logits: Tensor) -> Tensor:
        logits = full_precision(logits)
        return logits * self.std + self.mean if self.standardize else logits

    def chance(self, values: Labels) -> float:
        return float(np.var(values) / self.std**2) if len(values) else float("nan")


def fit_regression(
    error: Callable[[Tensor, Tensor], Tensor], values: Labels, task: TaskSchema, *, loss: str, standardize: bool, where: str
) -> RegressionLoss:
    """A loss with mean and standard deviation of the training labels [N].

    Errors: ConfigError for another kind of task, DataError where all labels are the same.
    """
    check_kind(task, "regression", loss, where)
    check_values(values, where)
    mean, std = float(np.mean(values)), float(np.std(values))
    if not std > 1e-12 * max(abs(mean), 1e-300):
        raise DataError(f"{where}: all {len(values)} training labels are {mean:g}; a regression needs labels that differ")
    return RegressionLoss(error=error, mean=mean, std=std, standardize=standardize)
