"""One layer of an LSTM or GRU as one operation of an exported graph, which torch.export would else unroll row by row.

Importing this module makes the operations known, which a saved program with them needs before `torch.export.load`.
"""

import torch
from torch import Tensor, library, nn

# rows [B, T, D] and the layer's weights as torch lays them out -> hidden states [B, T, H]


@library.custom_op("mmtrain::lstm", mutates_args=())
def lstm(rows: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """Gates in the order input, forget, cell, output, 4H each."""
    weights = [weight_ih, weight_hh, bias_ih, bias_hh]
    start = rows.new_zeros(1, rows.shape[0], weight_hh.shape[1])
    return torch.lstm(rows, [start, start], weights, True, 1, 0.0, False, False, True)[0]


@library.custom_op("mmtrain::gru", mutates_args=())
def gru(rows: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """Gates in the order reset, update, new, 3H each."""
    weights = [weight_ih, weight_hh, bias_ih, bias_hh]
    start = rows.new_zeros(1, rows.shape[0], weight_hh.shape[1])
    return torch.gru(rows, start, weights, True, 1, 0.0, False, False, True)[0]


def _states(rows: Tensor, _weight_ih: Tensor, weight_hh: Tensor, *_biases: Tensor) -> Tensor:
    """What a graph is told of the result: its shape."""
    return rows.new_empty(rows.shape[0], rows.shape[1], weight_hh.shape[1])


lstm.register_fake(_states)
gru.register_fake(_states)


class OneOperation(nn.Module):
    """A layer of nn.LSTM or nn.GRU, one direction, batch first, with the same weights and no state that is carried on."""

    def __init__(self, layer: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.layer, self.operation = layer, lstm if isinstance(layer, nn.LSTM) else gru

    def forward(self, rows: Tensor) -> tuple[Tensor, None]:
        """[B, T, D] to [B, T, H]."""
        layer = self.layer
        weights = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0
        return self.operation(rows, *weights), None
