"""MISA in plain float64 loops: the joint vector, and its three batch terms over the samples that have the modalities."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from plain_layers import array, layer_norm, linear, mean, ragged, randomize, relu, sigmoid, transformer_block

from mmtrain.models.fusion.misa import MisaFusionConfig
from mmtrain.models.fusion.misa_losses import moment_discrepancy, orthogonality
from mmtrain.models.pooling.mean import MeanPoolingConfig

DIM = 4
NAMES = ("text", "audio", "video")
LENGTHS = {"text": [3, 2, 1, 2, 2], "audio": [2, 0, 4, 1, 3], "video": [1, 3, 0, 2, 2]}


def parts(fusion, pooled):
    """u, shared and private part of each modality that a sample has."""
    found = {}
    for name, row in pooled.items():
        own = layer_norm(fusion.norms[f"{name}_norm"], row)
        private = sigmoid(linear(fusion.private[f"{name}_private"], own))
        found[name] = (own, sigmoid(linear(fusion.shared, own)), private)
    return found


def discrepancy(first, second):
    """CMD with 5 moments of two lists of rows."""

    def moments(rows):
        center = sum(rows) / len(rows)
        return [center, *(sum((row - center) ** k for row in rows) / len(rows) for k in range(2, 6))]

    return sum(math.sqrt(((a - b) ** 2).sum()) for a, b in zip(moments(first), moments(second), strict=True))


def overlap(first, second):
    """Mean square of the products of every two columns, after centering columns and scaling rows to length 1."""

    def unit(rows):
        center = sum(rows) / len(rows)
        return [(row - center) / math.sqrt(((row - center) ** 2).sum()) for row in rows]

    total, (left, right) = 0.0, (unit(first), unit(second))
    for i in range(DIM):
        for j in range(DIM):
            total += sum(a[i] * b[j] for a, b in zip(left, right, strict=True)) ** 2
    return total / DIM**2


def run(**settings):
    rows, batch = ragged(LENGTHS, DIM)
    config = MisaFusionConfig(heads=2, expansion=2, **settings)
    fusion = randomize(config.build(modalities=NAMES, dim=DIM, pooling=MeanPoolingConfig()))
    pooled = [{name: mean(rows[name][i], DIM) for name in NAMES if len(rows[name][i])} for i in range(5)]
    return fusion, [parts(fusion, sample) for sample in pooled], fusion(batch)


def test_the_joint_vector_is_the_attended_parts_side_by_side() -> None:
    fusion, samples, fused = run()
    for sample, joint in zip(samples, array(fused.joint), strict=True):
        tokens = [(name, 1, sample[name][2]) for name in NAMES if name in sample]
        tokens += [(name, 0, sample[name][1]) for name in NAMES if name in sample]
        attended = transformer_block(fusion.block, [row for *_, row in tokens])
        by_place = {(name, kind): row for (name, kind, _), row in zip(tokens, attended, strict=True)}
        flat = np.concatenate([by_place.get((name, kind), np.zeros(DIM)) for kind in (1, 0) for name in NAMES])
        norm, layer, *_ = fusion.output
        np.testing.assert_allclose(joint, relu(linear(layer, layer_norm(norm, flat))), atol=1e-10)


def test_batch_terms_speak_of_present_samples() -> None:
    fusion, samples, fused = run(similarity=0.7, difference=0.2, reconstruction=3.0)
    having = {name: [sample[name] for sample in samples if name in sample] for name in NAMES}
    pairs = list(combinations(NAMES, 2))
    similarity = sum(discrepancy([s for _, s, _ in having[a]], [s for _, s, _ in having[b]]) for a, b in pairs) / len(pairs)
    difference = sum(overlap([p for *_, p in having[name]], [s for _, s, _ in having[name]]) for name in NAMES)
    for a, b in pairs:
        both = [(sample[a][2], sample[b][2]) for sample in samples if a in sample and b in sample]
        difference += overlap([one for one, _ in both], [other for _, other in both])
    reconstruction = 0.0
    for name in NAMES:
        errors = [
            ((own - linear(fusion.decoders[f"{name}_decoder"], shared + private)) ** 2).mean()
            for own, shared, private in having[name]
        ]
        reconstruction += sum(errors) / len(errors) / len(NAMES)
    expected = {"similarity": 0.7 * similarity, "difference": 0.2 * difference, "reconstruction": 3.0 * reconstruction}
    assert {name: term.item() for name, term in fused.aux.items()} == pytest.approx(expected, rel=1e-9)


def test_a_strength_of_zero_leaves_the_term_out_with_its_weights() -> None:
    fusion, _, fused = run(reconstruction=0.0, similarity=0.0)
    assert list(fused.aux) == ["difference"]
    assert fusion.batch_terms == ("difference",)
    assert not [name for name, _ in fusion.named_parameters() if "decoder" in name]


def test_moments_by_hand() -> None:
    everyone = torch.tensor([True, True])
    first, second = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [0.5]])
    # means agree; the first has central moments 1/4, 0, 1/16, 0 and the second none
    assert moment_discrepancy(first, everyone, second, everyone).item() == pytest.approx(1 / 4 + 1 / 16)
    alone = moment_discrepancy(first, torch.tensor([False, True]), second, everyone)
    assert alone.item() == pytest.approx(0.5)  # one sample has a mean and no spread
    assert moment_discrepancy(first, everyone, second, ~everyone).item() == 0


def test_orthogonality_by_hand() -> None:
    mask = torch.tensor([True, True, False])
    first = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [9.0, 9.0]])
    # centered and scaled the rows are (1, 0), (-1, 0): X^T X has the one entry 2, so the mean of 4 squares is 1
    assert orthogonality(first, first, mask).item() == pytest.approx(1.0)
    # against rows that are the same for both samples, nothing is left after centering
    assert orthogonality(first, torch.ones(3, 2), mask).item() == 0
