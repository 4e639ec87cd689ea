"""Multilabel tasks: the mean over classes of one binary cross-entropy each."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mmtrain.data.schema import TaskKind, TaskSchema
from mmtrain.objectives.losses.binary import auto_weight
from mmtrain.objectives.losses.task_loss import (
    Labels,
    check_kind,
    check_shapes,
    check_values,
    entropy,
    full_precision,
)
from mmtrain.section import Section


class MultilabelConfig(Section):
    """Mean over C classes of the cross-entropy on each one's logit."""

    name: Literal["multilabel"] = "multilabel"
    pos_weight: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        default=None, description="Factor on positive labels' loss; auto = negatives / positives, for each class apart."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="Targets 0 and 1 become s/2 and 1 - s/2.")

    def build(self, values: Labels, task: TaskSchema, *, where: str = "the task") -> "MultilabelLoss":
        """From the training labels [N, C]. Errors: ConfigError for another kind, DataError for auto on a constant class."""
        check_kind(task, "multilabel", self.name, where)
        check_values(values, where)
        weights: tuple[float, ...] | None = None
        if self.pos_weight == "auto":
            columns = zip(task.classes, values.T, strict=True)
            weights = tuple(auto_weight(column, f"{where}, class '{name}'") for name, column in columns)
        elif self.pos_weight is not None:
            weights = (self.pos_weight,) * len(task.classes)
        return MultilabelLoss(pos_weights=weights, label_smoothing=self.label_smoothing)


def multilabel_cross_entropy(
    logits: Tensor, targets: Tensor, *, pos_weights: tuple[float, ...] | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """[B, C] logits against [B, C] targets of 0 or 1 -> [B], in nats per class."""
    check_shapes(logits, targets, num_dims=2, kind="multilabel")
    logits = full_precision(logits)
    targets = targets.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    weight = None if pos_weights is None else logits.new_tensor(pos_weights)
    return binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none").mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class MultilabelLoss:
    """The TaskLoss of a multilabel task."""

    pos_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    kind: TaskKind = field(default="multilabel", init=False)

    def training(self, logits: Tensor, targets: Tensor) -> Tensor:
        return multilabel_cross_entropy(logits, targets, pos_weights=self.pos_weights, label_smoothing=self.label_smoothing)

    def reported(self, logits: Tensor, targets: Tensor) -> Tensor:
        return multilabel_cross_entropy(logits, targets)

    def prediction(self, logits: Tensor) -> Tensor:
        return full_precision(logits).sigmoid()

    def chance(self, values: Labels) -> float:
        if not len(values):
            return float("nan")
        shares = values.mean(axis=0)
        return float(entropy(np.stack([shares, 1 - shares], axis=-1)).mean())
