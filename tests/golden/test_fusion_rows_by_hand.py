"""Fusions of whole sequences in plain float64 loops: early concat, joint attention, MulT, MBT, Perceiver and MAG, with
missing modalities.
"""

import math

import numpy as np
import pytest
import torch
from plain_layers import (
    array,
    cross_block,
    layer_norm,
    linear,
    mean,
    placed,
    ragged,
    randomize,
    relu,
    transformer_block,
)

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.fusion.attention import AttentionFusionConfig
from mmtrain.models.fusion.bottleneck import BottleneckFusionConfig
from mmtrain.models.fusion.cross_attention import CrossAttentionFusionConfig
from mmtrain.models.fusion.early_concat import EarlyConcatFusionConfig
from mmtrain.models.fusion.mag import MagFusionConfig
from mmtrain.models.fusion.perceiver import PerceiverFusionConfig
from mmtrain.models.pooling.mean import MeanPoolingConfig
from mmtrain.models.row_order import stretch

DIM = 4
PLACED = 1e-7  # tolerance where positions are added, which are float32
NAMES = ("text", "audio", "video")
LENGTHS = {"text": [3, 2, 1, 0], "audio": [2, 0, 5, 3], "video": [5, 3, 0, 2]}


def run(config, modalities=NAMES):
    """The fusion, each sample's rows by modality, and its joint vectors."""
    rows, batch = ragged({name: LENGTHS[name] for name in modalities}, DIM)
    fusion = randomize(config.build(modalities=modalities, dim=DIM, pooling=MeanPoolingConfig()))
    fused = fusion(batch)
    for name in modalities:
        expected = [mean(sample, DIM) for sample in rows[name]]
        np.testing.assert_allclose(array(fused.per_modality[name]), expected, atol=1e-12)
    assert fused.joint.shape == (4, fusion.joint_dim)
    return fusion, [{name: list(rows[name][i]) for name in modalities} for i in range(4)], array(fused.joint)


def stretched(rows, count):
    """Piece i of `count` equal pieces of the rows' time: the mean of the rows that begin in it, or the row under way."""
    result = []
    for i in range(count):
        first, stop = i * len(rows) // count, (i + 1) * len(rows) // count
        result.append(np.mean(rows[first : max(stop, first + 1)], axis=0))
    return result


@pytest.mark.parametrize(
    ("have", "want", "expected"),
    [
        ([1, 2, 3, 4, 5, 6], 3, [1.5, 3.5, 5.5]),  # averaged two by two
        ([1, 2, 3, 4, 5], 2, [1.5, 4]),  # two and three
        ([1, 2], 4, [1, 1, 2, 2]),  # repeated
        ([1, 2, 3], 5, [1, 1, 2, 2, 3]),
        ([1, 2, 3], 3, [1, 2, 3]),
        ([1, 2, 4, 9], 1, [4]),
        ([7], 3, [7, 7, 7]),
        ([], 2, [0, 0]),
    ],
)
@pytest.mark.parametrize("junk", [0, 2])
def test_stretch(have: list[float], want: int, expected: list[float], junk: int) -> None:
    """Also past rows that are masked out in front and in the middle of either side."""
    gaps = [True, False] * junk
    values = torch.tensor([*[math.nan] * len(gaps), *map(float, have), math.nan]).reshape(1, -1, 1)
    mask = torch.tensor([[*[False] * len(gaps), *[True] * len(have), False]])
    target = torch.tensor([[*[True] * (want - 1), *[False] * junk, True]])
    found = stretch(MaskedSequence(values, mask), target)
    assert found[target][:, 0].tolist() == expected
    assert not found[~target].any()


def test_stretch_is_the_plain_loop_for_every_pair_of_lengths() -> None:
    generator = np.random.default_rng(0)
    for have in range(1, 9):
        rows = generator.normal(size=(have, 2))
        for want in range(1, 9):
            sequence = MaskedSequence(torch.from_numpy(rows)[None], torch.ones(1, have, dtype=torch.bool))
            found = stretch(sequence, torch.ones(1, want, dtype=torch.bool))[0]
            np.testing.assert_allclose(array(found), stretched(list(rows), want), atol=1e-12)


def test_early_concat_joins_features_step_by_step() -> None:
    fusion, samples, found = run(EarlyConcatFusionConfig(layers=2, heads=2, expansion=2))
    for sample, joint in zip(samples, found, strict=True):
        longest = max(map(len, sample.values()))
        aligned = {name: stretched(rows, longest) if rows else [np.zeros(DIM)] * longest for name, rows in sample.items()}
        rows = [linear(fusion.join, np.concatenate([aligned[name][t] for name in NAMES])) for t in range(longest)]
        rows = placed(rows)
        for block in fusion.blocks:
            rows = transformer_block(block, rows)
        np.testing.assert_allclose(joint, mean([layer_norm(fusion.norm, row) for row in rows], DIM), atol=PLACED)


def test_attention_is_one_stream_of_marked_rows_behind_a_query() -> None:
    """The query holds what each modality's mean adds to it, a missing one nothing."""
    fusion, samples, found = run(AttentionFusionConfig(layers=2, heads=2, expansion=2))
    for sample, joint in zip(samples, found, strict=True):
        query = array(fusion.query) + sum(mean(rows, DIM) for rows in sample.values())
        marked = [row + mark for name, mark in zip(NAMES, array(fusion.marks), strict=True) for row in sample[name]]
        tokens = [query, *marked]
        for block in fusion.blocks:
            tokens = transformer_block(block, tokens)
        np.testing.assert_allclose(joint, layer_norm(fusion.norm, tokens[0]), atol=1e-10)


@pytest.mark.parametrize("modalities", [NAMES[:2], NAMES])
def test_cross_attention_is_tsais_transformer(modalities) -> None:
    """Every modality reads every other one; a missing one is not read, and a missing reader gives zeros."""
    fusion, samples, found = run(CrossAttentionFusionConfig(layers=2, heads=2, expansion=2), modalities)
    for sample, joint in zip(samples, found, strict=True):
        expected = []
        for name in modalities:
            others = [other for other in modalities if other != name]
            if not sample[name]:
                expected.append(np.zeros(DIM * len(others)))
                continue
            read = []
            for other in others:
                rows, context = placed(sample[name]), placed(sample[other]) if sample[other] else []
                for block in fusion.readers[f"{name}_reader"][f"{other}_blocks"]:
                    rows = cross_block(block, rows, context)
                read.append(rows)
            rows = [np.concatenate(parts) for parts in zip(*read, strict=True)]
            for block in fusion.memories[f"{name}_memory"]:
                rows = transformer_block(block, rows)
            expected.append(np.mean([layer_norm(fusion.norms[f"{name}_norm"], row) for row in rows], axis=0))
        np.testing.assert_allclose(joint, np.concatenate(expected), atol=PLACED)


def test_bottleneck_is_nagranis_exchange() -> None:
    """The bottleneck of the next layer is the mean of what the present modalities made of it."""
    fusion, samples, found = run(BottleneckFusionConfig(tokens=2, layers=3, heads=2, expansion=2))
    for sample, joint in zip(samples, found, strict=True):
        shared = list(array(fusion.tokens))
        rows = {name: own for name, own in sample.items() if own}
        for layer in range(3):
            versions = []
            for name, own in rows.items():
                after = transformer_block(fusion.blocks[f"{name}_blocks"][layer], [*own, *shared])
                rows[name] = after[: len(own)]
                versions.append(after[len(own) :])
            shared = [np.mean(tokens, axis=0) for tokens in zip(*versions, strict=True)]
        expected = [
            mean([layer_norm(fusion.norms[f"{name}_norm"], row) for row in rows.get(name, [])], DIM) for name in NAMES
        ]
        np.testing.assert_allclose(joint, np.concatenate(expected), atol=1e-10)


def test_perceiver_latents_read_all_rows() -> None:
    fusion, samples, found = run(PerceiverFusionConfig(latents=3, layers=2, heads=2, expansion=2))
    for sample, joint in zip(samples, found, strict=True):
        context = [
            row + mark
            for name, mark in zip(NAMES, array(fusion.marks), strict=True)
            for row in (placed(sample[name]) if sample[name] else [])
        ]
        latents = list(array(fusion.latents))
        for reader, block in zip(fusion.readers, fusion.blocks, strict=True):
            latents = transformer_block(block, cross_block(reader, latents, context))
        np.testing.assert_allclose(joint, layer_norm(fusion.norm, np.mean(latents, axis=0)), atol=PLACED)


@pytest.mark.parametrize("beta", [0.05, 1.0, 50.0])  # the shift is cut for all rows, for some, for none
def test_mag_is_rahmans_gate(beta: float) -> None:
    fusion, samples, found = run(MagFusionConfig(beta=beta))
    for sample, joint in zip(samples, found, strict=True):
        shifted = []
        for t, text in enumerate(sample["text"]):
            shift = array(fusion.bias)
            for name in ("audio", "video"):
                if sample[name]:
                    own = stretched(sample[name], len(sample["text"]))[t]
                    gate = relu(linear(fusion.gates[f"{name}_gate"], np.concatenate([text, own])))
                    shift = shift + gate * linear(fusion.shifts[f"{name}_shift"], own)
            alpha = min(beta * math.sqrt(text @ text) / math.sqrt(shift @ shift), 1.0)
            shifted.append(layer_norm(fusion.norm, text + alpha * shift))
        np.testing.assert_allclose(joint, mean(shifted, DIM), atol=1e-9)
