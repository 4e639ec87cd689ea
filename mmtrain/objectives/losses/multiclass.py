"""Multiclass tasks: cross-entropy over one softmax."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmtrain.data.schema import TaskKind, TaskSchema
from mmtrain.errors import DataError
from mmtrain.objectives.losses.task_loss import Labels, check_kind, check_values, entropy, full_precision
from mmtrain.section import Section


class MulticlassConfig(Section):
    """Cross-entropy over the softmax of C logits."""

    name: Literal["multiclass"] = "multiclass"
    class_weight: Literal["auto", "none"] = Field(
        default="none", description="auto = N / (C * count) of each class in the training labels; its mean over them is 1."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="Share of the target spread over all classes.")

    def build(self, values: Labels, task: TaskSchema, *, where: str = "the task") -> "MulticlassLoss":
        """From the training labels [N]. Errors: ConfigError for another kind, DataError for auto with a class missing."""
        check_kind(task, "multiclass", self.name, where)
        check_values(values, where)
        weights = _auto_weights(values, task, where) if self.class_weight == "auto" else None
        return MulticlassLoss(class_weights=weights, label_smoothing=self.label_smoothing)


def _auto_weights(values: Labels, task: TaskSchema, where: str) -> tuple[float, ...]:
    counts = np.bincount(values.astype(np.int64), minlength=len(task.classes))
    missing = [name for name, count in zip(task.classes, counts, strict=True) if not count]
    if missing:
        raise DataError(
            f"{where}: no training label is of class {', '.join(missing)}, so class_weight 'auto' has nothing to balance. "
            "Write none, or leave the class out of the store"
        )
    return tuple(float(len(values) / (len(counts) * count)) for count in counts)


def multiclass_cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: tuple[float, ...] | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """[B, C] logits against [B] class numbers -> [B], in nats: -sum_c w_c q_c log p_c, q the smoothed target."""
    if logits.ndim != 2 or targets.shape != logits.shape[:1]:
        raise ValueError(
            f"multiclass loss: logits {tuple(logits.shape)} must be [B, C] and targets {tuple(targets.shape)} [B]"
        )
    logits = full_precision(logits)
    weight = None if class_weights is None else logits.new_tensor(class_weights)
    return cross_entropy(logits, targets, weight=weight, label_smoothing=label_smoothing, reduction="none")


@dataclass(frozen=True, kw_only=True)
class MulticlassLoss:
    """The TaskLoss of a multiclass task."""

    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    kind: TaskKind = field(default="multiclass", init=False)

    def training(self, logits: Tensor, targets: Tensor) -> Tensor:
        return multiclass_cross_entropy(
            logits, targets, class_weights=self.class_weights, label_smoothing=self.label_smoothing
        )

    def reported(self, logits: Tensor, targets: Tensor) -> Tensor:
        return multiclass_cross_entropy(logits, targets)

    def prediction(self, logits: Tensor) -> Tensor:
        return full_precision(logits).softmax(dim=-1)

    def chance(self, values: Labels) -> float:
        if not len(values):
            return float("nan")
        return float(entropy(np.bincount(values.astype(np.int64)) / len(values)))
