"""A temporal convolutional network: dilated convolutions whose reach doubles with every layer."""

from typing import Literal

from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank
from mmtrain.section import Section


class TcnEncoderConfig(Section):
    """Residual dilated convolutions (after Bai et al. 2018); linear in the number of rows.

    Unlike the paper's, the convolutions look both ways, since a clip is read as a whole, and norms are layer norms of each
    row, which no padding can reach.
    """

    name: Literal["tcn"] = "tcn"
    layers: int = Field(default=4, gt=0, le=16, description="Layer l, from 0, has dilation 2^l.")
    reach: int = Field(default=1, gt=0, description="Neighbors on each side, in steps of the dilation: kernel 2 reach + 1.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def build(self, *, input_dim: int, dim: int) -> nn.Module:
        return TcnEncoder(input_dim=input_dim, dim=dim, layers=self.layers, reach=self.reach, dropout=self.dropout)


class TcnEncoder(nn.Module):
    """[B, T, D] to [B, T, dim], zeros under the mask: a row depends on reach (2^layers - 1) rows on each side.

    What lies under the mask is zero again before every convolution, as what lies beyond the ends is; rows masked out in
    the middle keep their place in time.
    """

    def __init__(self, *, input_dim: int, dim: int, layers: int, reach: int, dropout: float) -> None:
        super().__init__()
        self.projection, self.norm = nn.Linear(input_dim, dim), nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(
            _TcnBlock(dim=dim, reach=reach, dilation=2**layer, dropout=dropout) for layer in range(layers)
        )

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        rows = self.projection(blank(*sequence))
        for block in self.blocks:
            rows = block(rows, sequence.mask)
        return MaskedSequence(blank(self.norm(rows), sequence.mask), sequence.mask)


class _TcnBlock(nn.Module):
    """x + Dropout(W GELU(convolution(LayerNorm(x))))."""

    def __init__(self, *, dim: int, reach: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(dropout)
        self.convolution = nn.Conv1d(dim, dim, 2 * reach + 1, padding=reach * dilation, dilation=dilation)
        self.activation, self.output = nn.GELU(), nn.Linear(dim, dim)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        rows = rearrange(blank(self.norm(values), mask), "b t d -> b d t")
        rows = rearrange(self.convolution(rows), "b d t -> b t d")
        result: Tensor = values + self.dropout(self.output(self.activation(rows)))
        return result
