"""Regression by squared error."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.losses.regression import STANDARDIZE, RegressionLoss, fit_regression
from mmtrain.objectives.losses.task_loss import Labels
from mmtrain.section import Section


class MSEConfig(Section):
    """Squared error; the head learns the mean."""

    name: Literal["mse"] = "mse"
    standardize: bool = Field(default=True, description=STANDARDIZE)

    def build(self, values: Labels, task: TaskSchema, *, where: str = "the task") -> RegressionLoss:
        """From the training labels [N]; errors as in `fit_regression`."""
        return fit_regression(squared_error, values, task, loss=self.name, standardize=self.standardize, where=where)


def squared_error(predicted: Tensor, targets: Tensor) -> Tensor:
    """[B] and [B] -> [B]."""
    return (predicted - targets).square()
