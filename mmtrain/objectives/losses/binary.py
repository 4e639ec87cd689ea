"""Binary tasks: cross-entropy on one logit."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mmtrain.data.schema import TaskKind, TaskSchema
from mmtrain.errors import DataError
from mmtrain.objectives.losses.task_loss import (
    Labels,
    check_kind,
    check_shapes,
    check_values,
    entropy,
    full_precision,
)
from mmtrain.section import Section


class BinaryConfig(Section):
    """Cross-entropy on one logit."""

    name: Literal["binary"] = "binary"
    pos_weight: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        default=None, description="Factor on positive samples' loss; auto = negatives / positives of the training labels."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="Targets 0 and 1 become s/2 and 1 - s/2.")

    def build(self, values: Labels, task: TaskSchema, *, where: str = "the task") -> "BinaryLoss":
        """From the training labels [N]. Errors: ConfigError for another kind, DataError for auto on one class only."""
        check_kind(task, "binary", self.name, where)
        check_values(values, where)
        weight = auto_weight(values, where) if self.pos_weight == "auto" else self.pos_weight
        return BinaryLoss(pos_weight=1.0 if weight is None else weight, label_smoothing=self.label_smoothing)


def auto_weight(values: Labels, where: str) -> float:
    """Negatives per positive among labels [N]."""
    positives = int((values == 1).sum())
    if positives in (0, len(values)):
        raise DataError(
            f"{where}: all {len(values)} training labels are {'negative' if not positives else 'positive'}, so "
            "pos_weight 'auto' has nothing to balance. Write a number or null"
        )
    return (len(values) - positives) / positives


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, *, pos_weight: float = 1.0, label_smoothing: float = 0.0
) -> Tensor:
    """[B] logits against [B] targets of 0 or 1 -> [B], in nats."""
    check_shapes(logits, targets, num_dims=1, kind="binary")
    logits = full_precision(logits)
    targets = targets.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    weight = logits.new_tensor(pos_weight) if pos_weight != 1 else None
    return binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")


@dataclass(frozen=True, kw_only=True)
class BinaryLoss:
    """The TaskLoss of a binary task."""

    pos_weight: float = 1.0
    label_smoothing: float = 0.0
    kind: TaskKind = field(default="binary", init=False)

    def training(self, logits: Tensor, targets: Tensor) -> Tensor:
        return binary_cross_entropy(logits, targets, pos_weight=self.pos_weight, label_smoothing=self.label_smoothing)

    def reported(self, logits: Tensor, targets: Tensor) -> Tensor:
        return binary_cross_entropy(logits, targets)

    def prediction(self, logits: Tensor) -> Tensor:
        return full_precision(logits).sigmoid()

    def chance(self, values: Labels) -> float:
        if not len(values):
            return float("nan")
        share = float(np.mean(values))
        return float(entropy(np.array([share, 1 - share])))
