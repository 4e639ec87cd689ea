"""R-Drop: two passes with different dropout should predict the same distribution."""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mmtrain.data.batch import Batch, MaskedSequence
from mmtrain.data.schema import TaskKind
from mmtrain.objectives.losses.task_loss import full_precision
from mmtrain.section import Section


class RDropConfig(Section):
    """Symmetric KL between the predictions of two passes, times the strength. It doubles the cost of a step.

    Source: Liang et al. 2021, "R-Drop: Regularized Dropout for Neural Networks". With the task loss averaged over both
    passes, as here and in the authors' code, the strength is their alpha (equation 4 sums the two passes instead).
    """

    name: Literal["r_drop"] = "r_drop"
    strength: float = Field(gt=0, description="alpha; the paper uses 0.1 to 5.")

    def build(self) -> float:
        """The strength, as Objective takes it."""
        return self.strength


def symmetric_kl(kind: TaskKind, logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """(KL(a||b) + KL(b||a)) / 2 per sample, [B], in nats; never negative.

    Logits are [B] or [B, C] as in the losses. Both sums of a KL pair join into sum (p - q)(log p - log q), and the
    normalizers cancel; multilabel is the mean over classes, regression two Gaussians of variance 1 in head units.
    """
    if logits_a.shape != logits_b.shape or logits_a.ndim != (2 if kind in ("multiclass", "multilabel") else 1):
        raise ValueError(f"symmetric_kl of a {kind} task got {tuple(logits_a.shape)} and {tuple(logits_b.shape)}")
    a, b = full_precision(logits_a), full_precision(logits_b)
    if kind == "regression":
        return (a - b).square() / 2
    if kind == "multiclass":
        return ((a.softmax(1) - b.softmax(1)) * (a.log_softmax(1) - b.log_softmax(1))).sum(dim=1) / 2
    divergence = (a.sigmoid() - b.sigmoid()) * (a - b) / 2
    return divergence.mean(dim=1) if kind == "multilabel" else divergence


def two_views(batch: Batch) -> Batch:
    """The batch of 2B rows in which rows i and B + i are the same sample."""

    def twice(value: Tensor) -> Tensor:
        return torch.cat([value, value])

    return replace(
        batch,
        ids=batch.ids * 2,
        stream=twice(batch.stream),
        index=twice(batch.index),
        inputs={name: MaskedSequence(twice(item.values), twice(item.mask)) for name, item in batch.inputs.items()},
        targets={name: twice(value) for name, value in batch.targets.items()},
        labelled={name: twice(value) for name, value in batch.labelled.items()},
        group=twice(batch.group),
        text_key=twice(batch.text_key),
    )
