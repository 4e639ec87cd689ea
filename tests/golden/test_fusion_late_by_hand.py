"""Fusions of pooled vectors in plain float64 loops, modalities missing: concat, sum, mean, only, GMU, TFN, LMF and MFB."""

from itertools import combinations

import numpy as np
import pytest
from plain_layers import array, gelu, layer_norm, linear, mean, ragged, randomize, relu, sigmoid

from mmtrain.models.fusion.bilinear import BilinearFusionConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.fusion.gated import GatedFusionConfig
from mmtrain.models.fusion.low_rank import LowRankFusionConfig
from mmtrain.models.fusion.mean import MeanFusionConfig
from mmtrain.models.fusion.only import OnlyFusionConfig
from mmtrain.models.fusion.sum import SumFusionConfig
from mmtrain.models.fusion.tensor import TensorFusionConfig
from mmtrain.models.pooling.mean import MeanPoolingConfig

DIM = 4
LENGTHS = {"text": [3, 2, 1, 2], "audio": [2, 0, 4, 0], "video": [1, 3, 0, 0]}  # all, two of three, two, one


def run(config, modalities, dim=DIM):
    """The fusion, each sample's pooled vectors (None where it lacks the modality), and what came out."""
    rows, batch = ragged({name: LENGTHS[name] for name in modalities}, dim)
    fusion = randomize(config.build(modalities=modalities, dim=dim, pooling=MeanPoolingConfig()))
    fused = fusion(batch)
    samples = [{name: mean(rows[name][i], dim) if len(rows[name][i]) else None for name in modalities} for i in range(4)]
    for i, sample in enumerate(samples):
        for name in fusion.modalities:
            pooled = np.zeros(dim) if sample[name] is None else sample[name]
            np.testing.assert_allclose(array(fused.per_modality[name][i]), pooled, atol=1e-12)
    assert fused.joint.shape == (4, fusion.joint_dim)
    return fusion, samples, array(fused.joint)


def test_concat_goes_through_its_hidden_layers() -> None:
    fusion, samples, found = run(ConcatFusionConfig(hidden=(5, 3)), ("text", "audio", "video"))
    norm, _, first, _, _, second, *_ = fusion.network
    for sample, joint in zip(samples, found, strict=True):
        row = layer_norm(norm, np.concatenate([np.zeros(DIM) if part is None else part for part in sample.values()]))
        np.testing.assert_allclose(joint, gelu(linear(second, gelu(linear(first, row)))), atol=1e-12)


@pytest.mark.parametrize("config", [SumFusionConfig(), MeanFusionConfig()])
def test_sum_and_mean_count_what_is_there(config) -> None:
    fusion, samples, found = run(config, ("text", "audio", "video"))
    for sample, joint in zip(samples, found, strict=True):
        normed = [layer_norm(fusion.norms[f"{name}_norm"], row) for name, row in sample.items() if row is not None]
        expected = sum(normed) / (len(normed) if config.name == "mean" else 1)
        np.testing.assert_allclose(joint, expected, atol=1e-12)


def test_only_reads_one() -> None:
    fusion, samples, found = run(OnlyFusionConfig(modality="audio"), ("text", "audio"))
    assert fusion.modalities == ("audio",)
    for sample, joint in zip(samples, found, strict=True):
        row = np.zeros(DIM) if sample["audio"] is None else sample["audio"]
        np.testing.assert_allclose(joint, layer_norm(fusion.norm, row), atol=1e-12)


@pytest.mark.parametrize("modalities", [("text",), ("text", "audio"), ("text", "audio", "video")])
def test_gated_is_arevalos_unit(modalities) -> None:
    """Three gates of their own for three modalities, z and 1 - z for two."""
    fusion, samples, found = run(GatedFusionConfig(), modalities)
    for sample, joint in zip(samples, found, strict=True):
        rows = {name: np.zeros(DIM) if row is None else row for name, row in sample.items()}
        hidden = [np.tanh(array(fusion.hidden[f"{name}_hidden"].weight) @ row) for name, row in rows.items()]
        gates = sigmoid(array(fusion.gates.weight) @ np.concatenate(list(rows.values())))
        expected = np.zeros(DIM)
        for number, value in enumerate(hidden):
            gate = gates[number * DIM : (number + 1) * DIM]
            if len(modalities) == 2:
                gate = gates if number == 0 else 1 - gates
            expected += gate * value
        np.testing.assert_allclose(joint, layer_norm(fusion.norm, expected), atol=1e-12)


def test_tensor_is_zadehs_product() -> None:
    """Element (i, j, k) of the product is z_text[i] z_audio[j] z_video[k]; the last of each is 1."""
    fusion, samples, found = run(TensorFusionConfig(width=2, hidden=5), ("text", "audio", "video"))
    for sample, joint in zip(samples, found, strict=True):
        factors = []
        for name, row in sample.items():
            norm, layer, _ = fusion.factors[f"{name}_factor"]
            own = np.zeros(2) if row is None else relu(linear(layer, layer_norm(norm, row)))
            factors.append([*own, 1.0])
        text, audio, video = factors
        product = np.array([text[i] * audio[j] * video[k] for i in range(3) for j in range(3) for k in range(3)])
        np.testing.assert_allclose(joint, relu(linear(fusion.output[1], product)), atol=1e-12)


def test_low_rank_is_the_sum_of_rank_one_products() -> None:
    """h[o] = sum over r of the product over m of w_m[r, o] . [x_m; 1]: with the 1, a missing modality is [0; 1]."""
    fusion, samples, found = run(LowRankFusionConfig(rank=3), ("text", "audio", "video"))
    for sample, joint in zip(samples, found, strict=True):
        expected = np.zeros(DIM)
        for rank in range(3):
            for feature in range(DIM):
                product = 1.0
                for name, row in sample.items():
                    layer, line = fusion.factors[f"{name}_factor"], rank * DIM + feature
                    weights = [*array(layer.weight)[line], array(layer.bias)[line]]
                    product *= sum(
                        w * x for w, x in zip(weights, [*(np.zeros(DIM) if row is None else row), 1.0], strict=True)
                    )
                expected[feature] += product
        np.testing.assert_allclose(joint, layer_norm(fusion.norm, expected), atol=1e-10)


def test_low_rank_is_the_tensor_product_with_a_factored_weight() -> None:
    """Liu's identity: W . (z_1 (x) z_2) with W = sum over r of w_1^r (x) w_2^r, the full tensors written out."""
    fusion, samples, found = run(LowRankFusionConfig(rank=2), ("text", "audio"))
    full = np.zeros((DIM, DIM + 1, DIM + 1))
    factors = [
        np.concatenate([array(layer.weight), array(layer.bias)[:, None]], axis=1).reshape(2, DIM, DIM + 1)
        for layer in fusion.factors.values()
    ]
    for rank in range(2):
        for feature in range(DIM):
            full[feature] += np.outer(factors[0][rank, feature], factors[1][rank, feature])
    for sample, joint in zip(samples, found, strict=True):
        text, audio = (np.append(np.zeros(DIM) if row is None else row, 1.0) for row in sample.values())
        expected = np.array([(weights * np.outer(text, audio)).sum() for weights in full])
        np.testing.assert_allclose(joint, layer_norm(fusion.norm, expected), atol=1e-10)


@pytest.mark.parametrize("modalities", [("text", "audio"), ("text", "audio", "video")])
def test_bilinear_pools_k_products_a_feature_for_each_pair(modalities) -> None:
    fusion, samples, found = run(BilinearFusionConfig(factors=3), modalities)
    assert fusion.joint_dim == DIM * (1 if len(modalities) == 2 else 3)
    for sample, joint in zip(samples, found, strict=True):
        expected = []
        for pair, (one, other) in zip(fusion.products, combinations(modalities, 2), strict=True):
            first, second = (np.zeros(DIM) if sample[name] is None else sample[name] for name in (one, other))
            left, right = linear(pair.first, first), linear(pair.second, second)
            pooled = [sum(left[i * 3 + k] * right[i * 3 + k] for k in range(3)) for i in range(DIM)]
            expected.append(layer_norm(pair.norm, np.array(pooled)))
        np.testing.assert_allclose(joint, np.concatenate(expected), atol=1e-10)
