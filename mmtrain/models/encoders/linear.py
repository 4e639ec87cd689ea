"""Each row for itself: a linear map and a layer norm."""

from typing import Literal

from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank
from mmtrain.section import Section


class LinearEncoderConfig(Section):
    """Each row for itself: a linear map and a layer norm."""

    name: Literal["linear"] = "linear"

    def build(self, *, input_dim: int, dim: int) -> nn.Module:
        return LinearEncoder(input_dim=input_dim, dim=dim)


class LinearEncoder(nn.Module):
    """[B, T, D] to [B, T, dim]: LayerNorm(W x + b) row by row, zeros under the mask."""

    def __init__(self, *, input_dim: int, dim: int) -> None:
        super().__init__()
        self.projection, self.norm = nn.Linear(input_dim, dim), nn.LayerNorm(dim)

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        rows = self.norm(self.projection(blank(sequence.values, sequence.mask)))
        return MaskedSequence(blank(rows, sequence.mask), sequence.mask)
