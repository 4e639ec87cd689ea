"""Largest real value of each feature."""

from typing import Literal

import torch
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank
from mmtrain.section import Section


class MaxPoolingConfig(Section):
    """Largest real value of each feature."""

    name: Literal["max"] = "max"

    def build(self, *, dim: int) -> nn.Module:  # noqa: ARG002 (every pooling is built alike)
        return MaxPooling()


class MaxPooling(nn.Module):
    """[B, T, d] to [B, d]: the maximum over the real rows; zeros where there is none."""

    def forward(self, sequence: MaskedSequence) -> Tensor:
        lowest = torch.finfo(sequence.values.dtype).min
        largest = sequence.values.masked_fill(~sequence.mask[..., None], lowest).amax(dim=1)  # [B, d]
        return blank(largest, sequence.present)
