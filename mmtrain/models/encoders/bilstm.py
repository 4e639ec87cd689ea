"""A bidirectional LSTM over the real rows, exact under padding without packing."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank
from mmtrain.section import Section


class BiLstmEncoderConfig(Section):
    """A bidirectional LSTM with a layer norm, projected to the model's width."""

    name: Literal["bilstm"] = "bilstm"
    hidden: int = Field(default=256, gt=0, description="Units of each direction.")
    layers: int = Field(default=2, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Between layers and before the norm; a probability.")

    def build(self, *, input_dim: int, dim: int) -> nn.Module:
        return BiLstmEncoder(input_dim=input_dim, dim=dim, hidden=self.hidden, layers=self.layers, dropout=self.dropout)


class BiLstmEncoder(nn.Module):
    """[B, T, D] to [B, T, dim], zeros under the mask.

    Each layer is two unidirectional LSTMs; the second reads the rows reversed within their length, so that padding comes
    last for both and can reach no real row. Rows masked out in the middle are skipped, not read as zeros.
    """

    def __init__(self, *, input_dim: int, dim: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        widths = [input_dim, *[2 * hidden] * (layers - 1)]
        self.forwards = nn.ModuleList(nn.LSTM(width, hidden, batch_first=True) for width in widths)
        self.backwards = nn.ModuleList(nn.LSTM(width, hidden, batch_first=True) for width in widths)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(2 * hidden)
        self.projection = nn.Linear(2 * hidden, dim)

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        slots, reversal = real_first(sequence.mask), reverse_within(sequence.mask.sum(dim=1), sequence.mask.shape[1])
        rows = blank(sequence.values, sequence.mask)
        rows = torch.zeros_like(rows).scatter(1, slots[..., None].expand_as(rows), rows)  # [B, T, D] real rows first
        for number, (ahead, back) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            rows = self.dropout(rows) if number else rows
            rows = torch.cat([ahead(rows)[0], take(back(take(rows, reversal))[0], reversal)], dim=2)  # [B, T, 2 hidden]
        rows = self.projection(self.norm(self.dropout(take(rows, slots))))
        return MaskedSequence(blank(rows, sequence.mask), sequence.mask)


def take(rows: Tensor, index: Tensor) -> Tensor:
    """Rows [B, T, d] in the order of index [B, T]."""
    return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[2]))


def real_first(mask: Tensor) -> Tensor:
    """[B, T]: the slot of each row when real rows come first, both kinds in their old order. Right-padded: 0 .. T - 1."""
    return torch.where(mask, mask.cumsum(dim=1), mask.sum(dim=1, keepdim=True) + (~mask).cumsum(dim=1)) - 1


def reverse_within(lengths: Tensor, num_rows: int) -> Tensor:
    """[B, T]: index that reverses the first `lengths` rows of each sample and leaves the rest; its own inverse."""
    step = torch.arange(num_rows, device=lengths.device)[None]  # [1, T]
    return torch.where(step < lengths[:, None], lengths[:, None] - 1 - step, step)
