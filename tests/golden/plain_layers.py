"""Layers in plain float64 loops over one sample's rows, and ragged batches to compare with: no padding, no masks."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.block import CrossBlock, MultiHeadAttention, TransformerBlock

Row = np.ndarray


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and eval mode, with every parameter drawn anew: no bias is zero and no norm is plain."""
    torch.manual_seed(seed)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.6)
    return module.eval()


def ragged(lengths: Mapping[str, Sequence[int]], dim: int) -> tuple[dict[str, list[Row]], dict[str, MaskedSequence]]:
    """Rows [T, d] by modality and sample, and the same as a batch, a row longer than it needs, with NaN under the mask."""
    generator = np.random.default_rng(3)
    rows = {name: [generator.normal(size=(count, dim)) for count in counts] for name, counts in lengths.items()}
    batch = {}
    for name, samples in rows.items():
        longest = max(map(len, samples)) + 1
        values = torch.full((len(samples), longest, dim), math.nan, dtype=torch.float64)
        mask = torch.zeros(len(samples), longest, dtype=torch.bool)
        for number, sample in enumerate(samples):
            values[number, : len(sample)], mask[number, : len(sample)] = torch.from_numpy(sample), True
        batch[name] = MaskedSequence(values, mask)
    return rows, batch


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def linear(layer: nn.Linear, row: Row) -> Row:
    return array(layer.weight) @ row + (0 if layer.bias is None else array(layer.bias))


def layer_norm(layer: nn.LayerNorm, row: Row) -> Row:
    normed = (row - row.mean()) / math.sqrt(row.var() + layer.eps)
    return normed * array(layer.weight) + array(layer.bias)


def softmax(scores: Sequence[float]) -> list[float]:
    exponents = [math.exp(score) for score in scores]
    return [value / sum(exponents) for value in exponents]


def sigmoid(row: Row) -> Row:
    return np.array([1 / (1 + math.exp(-value)) for value in row])


def gelu(row: Row) -> Row:
    return np.array([value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in row])


def relu(row: Row) -> Row:
    return np.array([max(value, 0.0) for value in row])


def attention(layer: MultiHeadAttention, row: Row, context: Sequence[Row]) -> Row:
    """What one row reads from a context."""
    query, result, width = linear(layer.query, row), [], len(row) // layer.heads
    for head in range(layer.heads):
        part = slice(head * width, (head + 1) * width)
        keys = [linear(layer.key, other)[part] for other in context]
        values = [linear(layer.value, other)[part] for other in context]
        weights = softmax([float(query[part] @ key) / math.sqrt(width) for key in keys])
        result.append(sum(weight * value for weight, value in zip(weights, values, strict=True)))
    return np.concatenate(result)


def feedforward(block: TransformerBlock | CrossBlock, row: Row) -> Row:
    first, _, _, second = block.feedforward
    return row + linear(second, gelu(linear(first, layer_norm(block.feedforward_norm, row))))


def transformer_block(block: TransformerBlock, rows: Sequence[Row]) -> list[Row]:
    normed = [layer_norm(block.attention_norm, row) for row in rows]
    read = [
        row + linear(block.output, attention(block.attention, own, normed)) for row, own in zip(rows, normed, strict=True)
    ]
    return [feedforward(block, row) for row in read]


def cross_block(block: CrossBlock, rows: Sequence[Row], context: Sequence[Row]) -> list[Row]:
    normed = [layer_norm(block.context_norm, row) for row in context]
    read = list(rows)
    if normed:
        queries = [layer_norm(block.attention_norm, row) for row in rows]
        read = [
            row + linear(block.output, attention(block.attention, query, normed))
            for row, query in zip(rows, queries, strict=True)
        ]
    return [feedforward(block, row) for row in read]


def positions(count: int, dim: int) -> list[Row]:
    """Vaswani's: sin(t / 10000^(2i/d)) at feature 2i, its cosine at 2i + 1."""
    return [
        np.array([(math.cos if i % 2 else math.sin)(t / 10000 ** ((i - i % 2) / dim)) for i in range(dim)])
        for t in range(count)
    ]


def placed(rows: Sequence[Row]) -> list[Row]:
    """Rows plus their positions."""
    return [row + place for row, place in zip(rows, positions(len(rows), len(rows[0]) if len(rows) else 0), strict=True)]


def mean(rows: Sequence[Row], dim: int) -> Row:
    """Zeros where there is none."""
    return sum(rows, np.zeros(dim)) / max(len(rows), 1)
