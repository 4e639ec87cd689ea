"""Regression by absolute error."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.losses.regression import STANDARDIZE, RegressionLoss, fit_regression
from mmtrain.objectives.losses.task_loss import Labels
from mmtrain.section import Section


class L1Config(Section):
    """Absolute error; the head learns the median."""

    name: Literal["l1"] = "l1"
    standardize: bool = Field(default=True, description=STANDARDIZE)

    def build(self, values: Labels, task: TaskSchema, *, where: str = "the task") -> RegressionLoss:
        """From the training labels [N]; errors as in `fit_regression`."""
        return fit_regression(absolute_error, values, task, loss=self.name, standardize=self.standardize, where=where)


def absolute_error(predicted: Tensor, targets: Tensor) -> Tensor:
    """[B] and [B] -> [B]."""
    return (predicted - targets).abs()
