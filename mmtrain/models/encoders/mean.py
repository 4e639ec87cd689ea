"""One row a sample: the mean of the real rows, for baselines and for features without order."""

from typing import Literal

from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank, masked_mean
from mmtrain.section import Section


class MeanEncoderConfig(Section):
    """The mean of the real rows as a single row, then a linear map and a layer norm."""

    name: Literal["mean"] = "mean"

    def build(self, *, input_dim: int, dim: int) -> nn.Module:
        return MeanEncoder(input_dim=input_dim, dim=dim)


class MeanEncoder(nn.Module):
    """[B, T, D] to [B, 1, dim]: LayerNorm(W mean(x) + b); no row and zeros where the sample has none."""

    def __init__(self, *, input_dim: int, dim: int) -> None:
        super().__init__()
        self.projection, self.norm = nn.Linear(input_dim, dim), nn.LayerNorm(dim)

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        rows = self.norm(self.projection(masked_mean(*sequence)))[:, None]  # [B, 1, dim]
        mask = sequence.mask.any(dim=1, keepdim=True)  # [B, 1]
        return MaskedSequence(blank(rows, mask), mask)
