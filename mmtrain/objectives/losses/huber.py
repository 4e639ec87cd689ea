"""Regression by Huber's error: squared near the target, absolute far from it."""

from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import huber_loss

from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.losses.regression import STANDARDIZE, RegressionLoss, fit_regression
from mmtrain.objectives.losses.task_loss import Labels
from mmtrain.section import Section


class HuberConfig(Section):
    """Half the squared error up to `delta`, linear beyond (Huber 1964)."""

    name: Literal["huber"] = "huber"
    delta: float = Field(default=1.0, gt=0, description="Where it turns linear, in the units that the head predicts.")
    standardize: bool = Field(default=True, description=STANDARDIZE)

    def build(self, values: Labels, task: TaskSchema, *, where: str = "the task") -> RegressionLoss:
        """From the training labels [N]; errors as in `fit_regression`."""
        error = partial(huber_error, delta=self.delta)
        return fit_regression(error, values, task, loss=self.name, standardize=self.standardize, where=where)


def huber_error(predicted: Tensor, targets: Tensor, *, delta: float) -> Tensor:
    """[B] and [B] -> [B]."""
    return huber_loss(predicted, targets, delta=delta, reduction="none")
