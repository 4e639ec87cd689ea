"""A recurrent network in both directions over the real rows, exact under padding without packing."""

import torch
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank
from mmtrain.models.row_order import put_real_first, real_first, reverse_within, take


class BidirectionalEncoder(nn.Module):
    """[B, T, D] to [B, T, dim], zeros under the mask.

    Each layer is two unidirectional networks of the kind `cell`; the second reads the rows reversed within their length,
    so that padding comes last for both and can reach no real row. Rows masked out in the middle are skipped, not read as
    zeros. Behind the last layer stand dropout, a layer norm and a linear map, then what is asked for of a second norm
    (`output_norm`) and a second dropout (`output_dropout`). `layer_dropout`, between layers, is `dropout` unless given.
    """

    def __init__(
        self,
        *,
        cell: type[nn.LSTM] | type[nn.GRU],
        input_dim: int,
        dim: int,
        hidden: int,
        layers: int,
        dropout: float,
        layer_dropout: float | None = None,
        output_norm: bool = False,
        output_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [input_dim, *[2 * hidden] * (layers - 1)]
        self.forwards = nn.ModuleList(cell(width, hidden, batch_first=True) for width in widths)
        self.backwards = nn.ModuleList(cell(width, hidden, batch_first=True) for width in widths)
        self.layer_dropout = nn.Dropout(dropout if layer_dropout is None else layer_dropout)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(2 * hidden)
        self.projection = nn.Linear(2 * hidden, dim)
        self.output_norm = nn.LayerNorm(dim) if output_norm else nn.Identity()
        self.output_dropout = nn.Dropout(output_dropout)

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        slots, reversal = real_first(sequence.mask), reverse_within(sequence.mask.sum(dim=1), sequence.mask.shape[1])
        rows = put_real_first(sequence)
        for number, (ahead, back) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            rows = self.layer_dropout(rows) if number else rows
            rows = torch.cat([ahead(rows)[0], take(back(take(rows, reversal))[0], reversal)], dim=2)  # [B, T, 2 hidden]
        rows = self.projection(self.norm(self.dropout(take(rows, slots))))
        rows = self.output_dropout(self.output_norm(rows))
        return MaskedSequence(blank(rows, sequence.mask), sequence.mask)
