"""Mean over the real rows."""

from typing import Literal

from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import masked_mean
from mmtrain.section import Section


class MeanPoolingConfig(Section):
    """Mean over the real rows."""

    name: Literal["mean"] = "mean"

    def build(self, *, dim: int) -> nn.Module:  # noqa: ARG002 (every pooling is built alike)
        return MeanPooling()


class MeanPooling(nn.Module):
    """[B, T, d] to [B, d]: the sum of the real rows over their number; zeros where there is none."""

    def forward(self, sequence: MaskedSequence) -> Tensor:
        return masked_mean(*sequence)
