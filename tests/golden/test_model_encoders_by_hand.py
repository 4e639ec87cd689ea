"""Encoders against what they promise: torch's packed bidirectional LSTM, Vaswani's positions, the norm's arithmetic."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.encoders.bidirectional import BidirectionalEncoder
from mmtrain.models.encoders.linear import LinearEncoder
from mmtrain.models.encoders.transformer import sinusoidal_positions
from mmtrain.models.row_order import real_first, reverse_within


def packed_twin(encoder: BidirectionalEncoder, dim: int, hidden: int) -> nn.LSTM:
    """torch's own bidirectional LSTM with the same weights."""
    twin = nn.LSTM(dim, hidden, num_layers=len(encoder.forwards), bidirectional=True, batch_first=True)
    for layer, pair in enumerate(zip(encoder.forwards, encoder.backwards, strict=True)):
        for suffix, part in zip(("", "_reverse"), pair, strict=True):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(twin, f"{name}_l{layer}{suffix}").data.copy_(getattr(part, f"{name}_l0"))
    return twin


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_bilstm_is_torchs_on_packed_sequences(layers: int) -> None:
    torch.manual_seed(0)
    encoder = BidirectionalEncoder(cell=nn.LSTM, input_dim=3, dim=5, hidden=4, layers=layers, dropout=0.5).eval()
    twin, lengths = packed_twin(encoder, 3, 4), torch.tensor([6, 1, 4])
    values, mask = torch.randn(3, 6, 3), torch.arange(6) < lengths[:, None]
    states, _ = pad_packed_sequence(twin(pack_padded_sequence(values, lengths, True, False))[0], True)
    expected = encoder.projection(encoder.norm(states)).masked_fill(~mask[..., None], 0)
    found = encoder(MaskedSequence(values.masked_fill(~mask[..., None], math.nan), mask)).values
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_bilstm_skips_rows_masked_out_in_the_middle() -> None:
    torch.manual_seed(0)
    encoder = BidirectionalEncoder(cell=nn.LSTM, input_dim=3, dim=5, hidden=4, layers=2, dropout=0.5).eval()
    values, mask = torch.randn(1, 5, 3), torch.tensor([[False, True, False, True, True]])
    short = encoder(MaskedSequence(values[mask][None], torch.ones(1, 3, dtype=torch.bool))).values
    torch.testing.assert_close(encoder(MaskedSequence(values, mask)).values[mask][None], short)


def test_row_orders() -> None:
    assert real_first(torch.tensor([[False, True, False, True, True]])).tolist() == [[3, 0, 4, 1, 2]]
    assert reverse_within(torch.tensor([3, 0, 4]), 4).tolist() == [[2, 1, 0, 3], [0, 1, 2, 3], [3, 2, 1, 0]]


def test_sinusoidal_positions() -> None:
    found = sinusoidal_positions(3, 4, torch.device("cpu"))
    # features 2 and 3 turn 10000^(2/4) = 100 times slower
    expected = [[math.sin(t), math.cos(t), math.sin(t / 100), math.cos(t / 100)] for t in range(3)]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert sinusoidal_positions(2, 5, torch.device("cpu")).shape == (2, 5)


def test_linear_encoder_normalizes_each_row() -> None:
    encoder = LinearEncoder(input_dim=2, dim=2)
    nn.init.eye_(encoder.projection.weight)
    nn.init.zeros_(encoder.projection.bias)
    found = encoder(MaskedSequence(torch.tensor([[[5.0, 1.0], [math.nan, 1.0]]]), torch.tensor([[True, False]]))).values
    # (5, 1) has mean 3 and deviation 2
    torch.testing.assert_close(found, torch.tensor([[[1.0, -1.0], [0.0, 0.0]]]), atol=1e-5, rtol=0)
