"""Mean over the real rows."""

from typing import Literal

from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank
from mmtrain.section import Section


class MeanPoolingConfig(Section):
    """Mean over the real rows."""

    name: Literal["mean"] = "mean"

    def build(self, *, dim: int) -> nn.Module:  # noqa: ARG002 (every pooling is built alike)
        return MeanPooling()


class MeanPooling(nn.Module):
    """[B, T, d] to [B, d]: the sum of the real rows over their number; zeros where there is none."""

    def forward(self, sequence: MaskedSequence) -> Tensor:
        count = sequence.mask.sum(dim=1, keepdim=True).clamp(min=1)  # [B, 1]
        return blank(sequence.values, sequence.mask).sum(dim=1) / count
