"""What every task loss offers, and the few checks and numbers that all of them share."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmtrain.data.schema import TaskKind, TaskSchema
from mmtrain.errors import ConfigError, DataError

Labels = npt.NDArray[np.float64]


class TaskLoss(Protocol):
    """Losses of one task. Logits are [B] (binary, regression) or [B, C] (multiclass, multilabel) in any float type;
    every result is at least float32. Nothing here knows of masks, of other tasks or of the batch's mean.
    """

    @property
    def kind(self) -> TaskKind:
        """The kind of task that this loss speaks for."""

    def training(self, logits: Tensor, targets: Tensor) -> Tensor:
        """[B] what is minimized, with class weights and smoothing. Errors: ValueError where shapes do not fit."""

    def reported(self, logits: Tensor, targets: Tensor) -> Tensor:
        """[B] the plain negative log likelihood (nats), or the squared error in units of the training labels' standard
        deviation: without weights or smoothing, so that runs compare.
        """

    def prediction(self, logits: Tensor) -> Tensor:
        """Probabilities of the shape of the logits, or regression values in original units."""

    def chance(self, values: Labels) -> float:
        """Mean reported loss over labels [N] or [N, C] of the constant that predicts them best; nan for no label."""


def check_kind(task: TaskSchema, kind: TaskKind, loss: str, where: str) -> None:
    """Errors: ConfigError where a loss is asked to speak for another kind of task."""
    if task.kind != kind:
        raise ConfigError(f"{where}: loss '{loss}' is for {kind} tasks, but the store says {task.kind}. Write another loss")


def check_values(values: Labels, where: str) -> None:
    """Errors: DataError where there is no training label at all."""
    if not len(values):
        raise DataError(f"{where}: no training sample carries a label")


def check_shapes(logits: Tensor, targets: Tensor, *, num_dims: int, kind: TaskKind) -> None:
    """Errors: ValueError where logits and targets would broadcast, (8, 1) against (8,), instead of meeting."""
    expected = "[B]" if num_dims == 1 else "[B, C]"
    if logits.ndim != num_dims or logits.shape != targets.shape:
        raise ValueError(
            f"{kind} loss: logits {tuple(logits.shape)} and targets {tuple(targets.shape)} must both be {expected}"
        )


def full_precision(logits: Tensor) -> Tensor:
    """Half-precision logits as float32; float32 and float64 as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def entropy(shares: Labels) -> Labels:
    """Entropy in nats over the last axis; 0 log 0 is 0."""
    safe = np.where(shares > 0, shares, 1.0)
    total: Labels = -(shares * np.log(safe)).sum(axis=-1)
    return total
