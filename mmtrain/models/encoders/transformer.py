"""A small transformer over one modality's rows."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.block import TransformerBlock
from mmtrain.models.masks import blank
from mmtrain.section import Section


class TransformerEncoderConfig(Section):
    """Pre-norm transformer blocks with sinusoidal positions; no limit on the number of rows."""

    name: Literal["transformer"] = "transformer"
    layers: int = Field(default=2, gt=0, description="Blocks, one behind the other.")
    heads: int = Field(default=4, gt=0, description="Attention heads; must divide the model's dim.")
    expansion: int = Field(default=4, gt=0, description="Width of the feed-forward layer, in multiples of dim.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def build(self, *, input_dim: int, dim: int) -> nn.Module:
        return TransformerEncoder(
            input_dim=input_dim,
            dim=dim,
            layers=self.layers,
            heads=self.heads,
            expansion=self.expansion,
            dropout=self.dropout,
        )


class TransformerEncoder(nn.Module):
    """[B, T, D] to [B, T, dim], zeros under the mask."""

    def __init__(self, *, input_dim: int, dim: int, layers: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.projection, self.dropout, self.norm = nn.Linear(input_dim, dim), nn.Dropout(dropout), nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim=dim, heads=heads, expansion=expansion, dropout=dropout) for _ in range(layers)
        )

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        rows = self.projection(blank(sequence.values, sequence.mask))
        rows = self.dropout(add_positions(rows))
        for block in self.blocks:
            rows = block(rows, sequence.mask)
        return MaskedSequence(blank(self.norm(rows), sequence.mask), sequence.mask)


def add_positions(rows: Tensor) -> Tensor:
    """Rows [B, T, d], each plus the sinusoids of its place."""
    return rows + sinusoidal_positions(rows.shape[1], rows.shape[2], rows.device)


def sinusoidal_positions(num_rows: int, dim: int, device: torch.device) -> Tensor:
    """[T, d]: the sinusoids of the places 0 .. T - 1."""
    return sinusoids(torch.arange(num_rows, device=device), dim)


def sinusoids(places: Tensor, dim: int) -> Tensor:
    """[T, d] for places t [T]: sin(t / 10000^(2i/d)) at feature 2i, its cosine at 2i + 1 (Vaswani et al. 2017, 3.5)."""
    feature = torch.arange(dim, device=places.device)
    rate = torch.exp((feature - feature % 2) * (-math.log(10000.0) / dim))
    angle = places[:, None] * rate
    return torch.where(feature % 2 == 0, angle.sin(), angle.cos())
