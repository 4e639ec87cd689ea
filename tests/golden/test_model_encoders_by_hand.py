"""Encoders against what they promise: torch's packed recurrent networks, Vaswani's positions, plain float64 loops."""

import math

import numpy as np
import pytest
import torch
from plain_layers import array, attention, gelu, layer_norm, linear, placed, ragged, randomize, sigmoid
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.encoders.bidirectional import BidirectionalEncoder
from mmtrain.models.encoders.bilstm import BiLstmEncoderConfig
from mmtrain.models.encoders.conformer import ConformerEncoderConfig
from mmtrain.models.encoders.gru import GruEncoderConfig
from mmtrain.models.encoders.linear import LinearEncoder
from mmtrain.models.encoders.mean import MeanEncoder
from mmtrain.models.encoders.tcn import TcnEncoderConfig
from mmtrain.models.encoders.transformer import sinusoidal_positions
from mmtrain.models.row_order import real_first, reverse_within


def packed_twin(encoder: BidirectionalEncoder, cell: type[nn.RNNBase], dim: int, hidden: int) -> nn.RNNBase:
    """torch's own bidirectional network with the same weights."""
    twin = cell(dim, hidden, num_layers=len(encoder.forwards), bidirectional=True, batch_first=True)
    for layer, pair in enumerate(zip(encoder.forwards, encoder.backwards, strict=True)):
        for suffix, part in zip(("", "_reverse"), pair, strict=True):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(twin, f"{name}_l{layer}{suffix}").data.copy_(getattr(part, f"{name}_l0"))
    return twin


RECURRENT = [(BiLstmEncoderConfig, nn.LSTM), (GruEncoderConfig, nn.GRU)]


@pytest.mark.parametrize(("config", "cell"), RECURRENT)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_recurrent_encoders_are_torchs_on_packed_sequences(config, cell, layers: int) -> None:
    torch.manual_seed(0)
    encoder = config(hidden=4, layers=layers, dropout=0.5).build(input_dim=3, dim=5).eval()
    twin, lengths = packed_twin(encoder, cell, 3, 4), torch.tensor([6, 1, 4])
    values, mask = torch.randn(3, 6, 3), torch.arange(6) < lengths[:, None]
    states, _ = pad_packed_sequence(twin(pack_padded_sequence(values, lengths, True, False))[0], True)
    expected = encoder.projection(encoder.norm(states)).masked_fill(~mask[..., None], 0)
    found = encoder(MaskedSequence(values.masked_fill(~mask[..., None], math.nan), mask)).values
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_what_stands_behind_a_bilstm() -> None:
    """Projection, second norm, second dropout; between the layers a dropout of its own."""
    torch.manual_seed(0)
    config = BiLstmEncoderConfig(hidden=4, layers=2, dropout=0.0, layer_dropout=0.9, output_norm=True, output_dropout=0.5)
    encoder = config.build(input_dim=3, dim=400)
    twin = BiLstmEncoderConfig(hidden=4, dropout=0.0).build(input_dim=3, dim=400)
    nn.init.normal_(encoder.output_norm.weight)
    twin.load_state_dict({name: value for name, value in encoder.state_dict().items() if "output_norm" not in name})
    sequence = MaskedSequence(torch.randn(1, 2, 3), torch.tensor([[True, False]]))
    row = twin(sequence).values[0, 0]
    normed = (row - row.mean()) / (row.var(unbiased=False) + 1e-5).sqrt() * encoder.output_norm.weight
    torch.testing.assert_close(encoder.eval()(sequence).values[0], torch.stack([normed, torch.zeros(400)]))
    torch.testing.assert_close(twin.train()(sequence).values, twin.eval()(sequence).values)  # layer_dropout is dropout's
    encoder.train().layer_dropout.eval()
    found = encoder(sequence).values[0, 0]
    kept = found != 0
    assert 0.4 < kept.float().mean() < 0.6
    torch.testing.assert_close(found[kept], 2 * normed[kept])
    encoder.eval().layer_dropout.train()
    assert (encoder(sequence).values[0, 0] - normed).abs().max() > 1e-3


@pytest.mark.parametrize(("config", "cell"), RECURRENT)
def test_recurrent_encoders_skip_rows_masked_out_in_the_middle(config, cell) -> None:  # noqa: ARG001
    torch.manual_seed(0)
    encoder = config(hidden=4, layers=2, dropout=0.5).build(input_dim=3, dim=5).eval()
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


def test_mean_encoder_is_one_normed_row() -> None:
    encoder = MeanEncoder(input_dim=2, dim=2)
    nn.init.eye_(encoder.projection.weight)
    nn.init.zeros_(encoder.projection.bias)
    values = torch.tensor([[[5.0, 1.0], [math.nan, 1.0], [1.0, 3.0]], [[math.nan] * 2] * 3])
    found = encoder(MaskedSequence(values, torch.tensor([[True, False, True], [False] * 3])))
    # the mean (3, 2) has mean 2.5 and deviation 0.5; the second sample has nothing
    torch.testing.assert_close(found.values, torch.tensor([[[1.0, -1.0]], [[0.0, 0.0]]]), atol=1e-4, rtol=0)
    assert found.mask.tolist() == [[True], [False]]


def convolve(layer: nn.Conv1d, rows: list[np.ndarray], place: int) -> np.ndarray:
    """Row `place` of a convolution over time that finds zeros beyond both ends."""
    weight, (kernel,), (dilation,) = array(layer.weight), layer.kernel_size, layer.dilation
    result = array(layer.bias).copy()
    for step in range(kernel):
        source = place + (step - kernel // 2) * dilation
        if 0 <= source < len(rows):
            own = weight[:, :, step]
            result += own @ rows[source] if layer.groups == 1 else own[:, 0] * rows[source]
    return result


LENGTHS = {"audio": [6, 1, 0, 3]}


def test_tcn_in_plain_loops() -> None:
    samples, batch = ragged(LENGTHS, 3)
    encoder = randomize(TcnEncoderConfig(layers=3, reach=1).build(input_dim=3, dim=4))
    assert [block.convolution.dilation for block in encoder.blocks] == [(1,), (2,), (4,)]
    found = encoder(batch["audio"])
    for sample, given in enumerate(samples["audio"]):
        rows = [linear(encoder.projection, row) for row in given]
        for block in encoder.blocks:
            normed = [layer_norm(block.norm, row) for row in rows]
            mixed = [gelu(convolve(block.convolution, normed, t)) for t in range(len(rows))]
            rows = [row + linear(block.output, own) for row, own in zip(rows, mixed, strict=True)]
        for t, row in enumerate(rows):
            np.testing.assert_allclose(array(found.values[sample, t]), layer_norm(encoder.norm, row), atol=1e-10)
        assert not found.values[sample, len(rows) :].any()


def silu(row: np.ndarray) -> np.ndarray:
    return row * sigmoid(row)


def half_step(layers: nn.Sequential, row: np.ndarray) -> np.ndarray:
    norm, first, _, _, second, _ = layers
    return row + linear(second, silu(linear(first, layer_norm(norm, row)))) / 2


def test_conformer_in_plain_loops() -> None:
    samples, batch = ragged(LENGTHS, 3)
    encoder = randomize(ConformerEncoderConfig(layers=2, heads=2, expansion=2, reach=1).build(input_dim=3, dim=4))
    found = encoder(batch["audio"])
    for sample, given in enumerate(samples["audio"]):
        if not len(given):
            continue
        rows = placed([linear(encoder.projection, row) for row in given])
        for block in encoder.blocks:
            rows = [half_step(block.before, row) for row in rows]
            normed = [layer_norm(block.attention_norm, row) for row in rows]
            read = [linear(block.attention_output, attention(block.attention, row, normed)) for row in normed]
            rows = [row + own for row, own in zip(rows, read, strict=True)]
            inner = block.convolution
            gated = [linear(inner.gate, layer_norm(inner.norm, row)) for row in rows]
            gated = [row[:4] * sigmoid(row[4:]) for row in gated]
            mixed = [silu(layer_norm(inner.depthwise_norm, convolve(inner.depthwise, gated, t))) for t in range(len(rows))]
            rows = [row + linear(inner.output, own) for row, own in zip(rows, mixed, strict=True)]
            rows = [layer_norm(block.norm, half_step(block.after, row)) for row in rows]
        expected = np.array(rows)
        np.testing.assert_allclose(array(found.values[sample, : len(rows)]), expected, atol=1e-7)  # positions are float32
