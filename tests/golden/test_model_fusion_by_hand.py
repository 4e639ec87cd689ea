"""Hierarchical cross-attention in plain float64 loops, attention pooling and concat with numbers done by hand."""

import math

import numpy as np
import torch
from plain_layers import attention, layer_norm, linear, softmax
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.fusion.attention import AttentionFusionConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.fusion.hca import HcaFusionConfig, Reader
from mmtrain.models.pooling.attention import AttentionPooling, AttentionPoolingConfig
from mmtrain.models.pooling.mean import MeanPoolingConfig

HEADS, DIM = 2, 6


def read(reader: Reader, own: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """One modality [T, d] of one sample, without padding: attends to the others in turn, then pools by attention."""
    if not len(own):
        return np.zeros(DIM)
    rows = []
    for start in own:
        row = start
        for norm, other in zip(reader.norms, others, strict=True):
            row = layer_norm(norm, attention(reader.attention, row, other)) if len(other) else row
        rows.append(row + start)
    pooling: AttentionPooling = reader.pooling
    weights = softmax([float(linear(pooling.context, np.tanh(linear(pooling.hidden, row)))[0]) for row in rows])
    return layer_norm(reader.pooled_norm, sum(weight * row for weight, row in zip(weights, rows, strict=True)))


def test_hca_is_the_papers() -> None:
    """In the order (video, text, audio) text reads video then audio, audio video then text, video text then audio.

    Side by side they stand as the model lists them, in whatever order they read.
    """
    torch.manual_seed(0)
    config = HcaFusionConfig(order=("video", "text", "audio"), heads=HEADS)
    fusion = config.build(modalities=("text", "audio", "video"), dim=DIM, pooling=AttentionPoolingConfig()).double().eval()
    for parameter in fusion.parameters():
        nn.init.normal_(parameter)
    lengths = {"text": [4, 2, 3], "audio": [2, 0, 5], "video": [3, 1, 0]}
    rows = {name: [np.random.default_rng(n).normal(size=(n, DIM)) for n in counts] for name, counts in lengths.items()}
    inputs = {}
    for name, samples in rows.items():
        values, mask = torch.full((3, 6, DIM), math.nan, dtype=torch.float64), torch.zeros(3, 6, dtype=torch.bool)
        for number, sample in enumerate(samples):
            values[number, : len(sample)], mask[number, : len(sample)] = torch.from_numpy(sample), True
        inputs[name] = MaskedSequence(values, mask)
    found = fusion(inputs)
    steps = {"text": ("video", "audio"), "audio": ("video", "text"), "video": ("text", "audio")}
    for sample in range(3):
        expected = []
        for name, others in steps.items():
            reader = fusion.readers[f"{name}_reader"]
            expected.append(read(reader, rows[name][sample], [rows[other][sample] for other in others]))
            np.testing.assert_allclose(found.per_modality[name][sample].detach().numpy(), expected[-1], atol=1e-12)
        np.testing.assert_allclose(found.joint[sample].detach().numpy(), np.concatenate(expected), atol=1e-12)


def test_attention_pooling_by_hand() -> None:
    pooling = AttentionPooling(dim=2)
    with torch.no_grad():
        pooling.hidden.weight.copy_(torch.eye(2))
        pooling.hidden.bias.zero_()
        pooling.context.weight.copy_(torch.tensor([[math.log(3) / math.tanh(1), 0.0]]))
    values = torch.tensor([[[1.0, 4.0], [0.0, 8.0], [9.0, 9.0]]])
    # scores log 3 and 0, so weights 3/4 and 1/4; the third row is not there
    found = pooling(MaskedSequence(values, torch.tensor([[True, True, False]])))
    torch.testing.assert_close(found, torch.tensor([[0.75, 5.0]]))


def test_concat_sets_pooled_modalities_side_by_side() -> None:
    fusion = ConcatFusionConfig().build(modalities=("audio", "video"), dim=2, pooling=MeanPoolingConfig()).eval()
    audio = MaskedSequence(torch.tensor([[[1.0, 3.0], [3.0, 5.0]]]), torch.tensor([[True, True]]))
    video = MaskedSequence(torch.tensor([[[7.0, 7.0], [2.0, 2.0]]]), torch.tensor([[False, False]]))
    found = fusion({"audio": audio, "video": video})
    # pooled (2, 4) and nothing: (2, 4, 0, 0) has mean 1.5 and variance 2.75
    expected = (torch.tensor([[2.0, 4.0, 0.0, 0.0]]) - 1.5) / math.sqrt(2.75 + 1e-5)
    torch.testing.assert_close(found.joint, expected)
    torch.testing.assert_close(found.per_modality["audio"], torch.tensor([[2.0, 4.0]]))


def test_attention_fusion_tells_modalities_apart() -> None:
    torch.manual_seed(0)
    fusion = AttentionFusionConfig(heads=2).build(modalities=("audio", "video"), dim=4, pooling=MeanPoolingConfig()).eval()
    nn.init.normal_(fusion.marks)
    one, other = (MaskedSequence(torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)) for _ in range(2))
    straight, crossed = fusion({"audio": one, "video": other}), fusion({"audio": other, "video": one})
    assert (straight.joint - crossed.joint).abs().max() > 1e-3
