"""The product of the tasks' losses is minimized, so that each counts by its relative change."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from mmtrain.curriculum.samplers.protocol import Stateless
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section

_SMALLEST = 1e-8  # a loss below counts as this: its logarithm stays finite


class GeometricConfig(Section):
    """The geometric mean of the losses of the step. With several micro-batches it costs a second forward pass."""

    name: Literal["geometric"] = "geometric"

    def build(self, setting: Setting) -> "Geometric":  # noqa: ARG002
        return Geometric()


class Geometric(Stateless):
    """loss = (prod_t L_t)^(1 / K) over the K active tasks with a label in the global batch.

    Its gradient is sum_t w_t grad L_t with w_t = loss / (K L_t), the losses being those of the step's whole batch. A loss
    below 1e-8 counts as 1e-8, so that no other task stands still for it.
    Source: Chennupati et al. 2019, "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task
    Learning", equation 2.
    """

    def weights(self, step: int, active: Sequence[str]) -> None:
        """Unknown before the losses of the step are."""

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """w above."""
        whole = self.objective(losses)
        return {task: whole / (len(losses) * loss.clamp(min=_SMALLEST)) for task, loss in losses.items()}

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The geometric mean."""
        return torch.stack(list(losses.values())).clamp(min=_SMALLEST).log().mean().exp()
