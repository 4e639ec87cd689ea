"""Every fusion tells of all its attention, and what is recorded of it is what its forward pass weighs rows with."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from test_mask_contract import DIMS, MODALITIES, fits, padded, real_rows, small

from mmtrain.analysis.attention import attentive_fusions, file_name, part_labels
from mmtrain.data.batch import MaskedSequence
from mmtrain.models.attending import Attentive
from mmtrain.models.attention_maps import Recorded, record_maps
from mmtrain.models.block import MultiHeadAttention
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders.linear import LinearEncoderConfig
from mmtrain.models.encoders.mean import MeanEncoderConfig
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.model import MultimodalModel
from mmtrain.section import Section

NAMES = {row.model_fields["name"].default: row for row in FUSIONS}
RECORDED = ("early_concat", "attention", "cross_attention", "hca", "bottleneck", "perceiver", "misa")
READ = ("audio", "video", "face")
LENGTHS = {"audio": 5, "video": 3, "face": 2}


def build(fusion: Section, *, names: tuple[str, ...] = READ, **more: Any) -> MultimodalModel:
    torch.manual_seed(0)
    config = ModelConfig(dim=8, sequences={name: LinearEncoderConfig() for name in names}, fusion=fusion, **more)
    model = build_model(
        config, dims=DIMS, outputs={"funny": 1}, heads={"funny": LinearHeadConfig()}, scalar_tasks=["funny"], rates={}
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return model.eval()


def one(*, without: tuple[str, ...] = ()) -> dict[str, MaskedSequence]:
    """The first of the mask contract's samples, whose lengths are LENGTHS."""
    return padded({name: rows[:1] for name, rows in real_rows(without=without).items() if name in READ})


def row_sums(recorded: Recorded) -> Mapping[tuple[int, str], np.ndarray]:
    """(call, query) -> what each of its rows gives to all parts together."""
    sums: dict[tuple[int, str], np.ndarray] = {}
    for item in recorded.maps:
        sums[item.call, item.query] = sums.get((item.call, item.query), 0) + item.weights.sum(axis=1)
    return sums


@pytest.mark.parametrize("row", FUSIONS, ids=lambda row: row.model_fields["name"].default)
def test_a_fusion_tells_of_all_its_attention_or_has_none(row: type[Section]) -> None:
    count = next(count for count in reversed(MODALITIES) if fits(row, count))
    torch.manual_seed(0)
    fusion = small(row).build(modalities=MODALITIES[count], dim=8, pooling=ModelConfig.model_fields["pooling"].default)
    inside = {module for module in fusion.modules() if isinstance(module, MultiHeadAttention)}
    assert isinstance(fusion, Attentive) == bool(inside)
    assert (row.model_fields["name"].default in attentive_fusions()) == bool(inside)
    if inside:
        calls = list(fusion.attends())
        assert {call.attention for call in calls} == inside
        known = {*fusion.modalities, *fusion.own_rows()}
        assert all(set(call.queries) | set(call.keys) <= known for call in calls)
        assert len({(call.layer, call.queries, call.keys) for call in calls}) == len(calls), "no two are called alike"


def test_the_fusions_that_have_some() -> None:
    assert attentive_fusions() == list(RECORDED)


@pytest.mark.parametrize("bias", [False, True])
def test_weights_times_values_are_what_attention_gives(bias: bool) -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(dim=8, heads=2, dropout=0.3).double().eval()
    queries, context = torch.randn(3, 4, 8).double(), torch.randn(3, 5, 8).double()
    mask = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 5])
    shift = torch.randn(2, 4, 5).double() if bias else None
    weights = attention.weights(queries, context, mask, shift)
    assert weights.shape == (3, 2, 4, 5)
    values = attention.value(context).view(3, 5, 2, 4).transpose(1, 2)
    mixed = (weights @ values).transpose(1, 2).reshape(3, 4, 8)
    expected = attention(queries, context, mask, shift)
    torch.testing.assert_close(mixed[:2], expected[:2], atol=1e-5, rtol=0)
    torch.testing.assert_close(weights.sum(dim=3)[:2], torch.ones(2, 2, 4).double())
    assert not weights[2].any(), "without a real row there is nothing to read"
    assert not weights[1, :, :, [1, 3, 4]].any()
    # head 0 of the first row of the second sample, whose keys are the rows 0 and 2
    query, key = attention.query(queries)[1, 0, :4].tolist(), attention.key(context)[1, :, :4].tolist()
    scores = {at: sum(q * k for q, k in zip(query, key[at], strict=True)) / 2 for at in (0, 2)}
    scores = {at: score + (float(shift[0, 0, at]) if bias else 0) for at, score in scores.items()}
    total = sum(math.exp(score) for score in scores.values())
    assert weights[1, 0, 0, 2].item() == pytest.approx(math.exp(scores[2]) / total)


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("without", [(), ("video",), ("audio", "video", "face")], ids=["all", "two", "none"])
def test_rows_sum_to_one_over_real_rows(name: str, without: tuple[str, ...]) -> None:
    model = build(small(NAMES[name]))
    recorded = record_maps(model, one(without=without))
    present = {part: 0 if part in without else LENGTHS[part] for part in READ}
    assert recorded.num_rows == present
    for item in recorded.maps:
        for part, count in zip((item.query, item.key), item.weights.shape, strict=True):
            assert count == present.get(part, count)
            assert count
    if name in ("misa", "early_concat") and len(without) == 3:
        assert not any(sums.any() for sums in row_sums(recorded).values()), "there is nothing to read"
        return
    for key, sums in row_sums(recorded).items():
        assert sums == pytest.approx(np.ones(len(sums)), abs=1e-5), key
    if not without:
        assert {(item.query, item.key) for item in recorded.maps} >= EXPECTED[name]


PAIRS = {(one, other) for one in READ for other in READ}
EXPECTED = {
    "attention": PAIRS | {("query", name) for name in READ},
    "cross_attention": PAIRS,
    "hca": {(one, other) for one, other in PAIRS if one != other},
    "bottleneck": {(name, "bottleneck") for name in READ} | {("bottleneck", name) for name in READ},
    "perceiver": {("latents", name) for name in READ},
    "early_concat": {("steps", "steps")},
    "misa": {("parts", "parts")},
}


def test_a_map_is_the_fusions_own_arithmetic() -> None:
    """One block over joined rows, by hand: the mean over heads of softmax(q k / sqrt(e)) of what the block is given."""
    model, inputs = build(small(NAMES["attention"])), one()
    recorded = {(item.query, item.key): item.weights for item in record_maps(model, inputs).maps}
    block = model.fusion.blocks[0]
    with torch.no_grad():
        encoded = model.encode(inputs)
        query = model.fusion.query + sum(rows.values.mean(dim=1) for rows in encoded.values())
        rows = [query] + [
            row + mark for mark, item in zip(model.fusion.marks, encoded.values(), strict=True) for row in item[0][0]
        ]
        normed = block.attention_norm(torch.stack([row.reshape(-1) for row in rows]))
        heads = zip(block.attention.query(normed).split(4, dim=1), block.attention.key(normed).split(4, dim=1), strict=True)
        weights = torch.stack([(queries @ keys.T / 2).softmax(dim=1) for queries, keys in heads]).mean(dim=0).numpy()
    assert recorded["query", "query"] == pytest.approx(weights[:1, :1], abs=1e-5)
    assert recorded["audio", "video"] == pytest.approx(weights[1:6, 6:9], abs=1e-5)
    assert recorded["face", "audio"] == pytest.approx(weights[9:, 1:6], abs=1e-5)


def test_hca_reads_the_others_in_its_order() -> None:
    model = build(small(NAMES["hca"]).model_copy(update={"order": ("face", "audio", "video")}))
    recorded = record_maps(model, one())
    names = [item.name for item in recorded.maps]
    assert names[:2] == ["step 1, audio to face", "step 2, audio to video"]
    reader = model.fusion.readers["audio_reader"]
    with torch.no_grad():
        encoded = model.encode(one())
        first = reader.attention.weights(encoded["audio"].values, encoded["face"].values, encoded["face"].mask)
    assert recorded.maps[0].weights == pytest.approx(first[0].mean(dim=0).numpy(), abs=1e-6)


def test_recording_leaves_the_model_as_it_was() -> None:
    model, inputs = build(small(NAMES["bottleneck"])), one()
    with torch.inference_mode():
        before = model(inputs).logits["funny"]
        record_maps(model, inputs)
        assert torch.equal(model(inputs).logits["funny"], before)
    assert not [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]


def test_labels_are_times_numbers_and_what_the_fusion_calls_its_own() -> None:
    model = build(small(NAMES["perceiver"]), placeholders=("video",))
    inputs = one(without=("video",))
    labels = part_labels(
        record_maps(model, inputs), inputs, own_rows=model.fusion.own_rows(), tokenizer=None, rates={"audio": 10.0}
    )
    times = ["row 1 (0.05 s)", "row 2 (0.15 s)", "row 3 (0.25 s)", "row 4 (0.35 s)", "row 5 (0.45 s)"]
    assert labels == {
        "latents": ["latent 1", "latent 2", "latent 3"],
        "audio": times,
        "video": ["placeholder"],
        "face": ["row 1", "row 2"],
    }
    model = build(small(NAMES["early_concat"]))
    labels = part_labels(
        record_maps(model, one(without=("face",))),
        one(without=("face",)),
        own_rows=model.fusion.own_rows(),
        tokenizer=None,
        rates={},
    )
    assert (labels["steps"], labels["face"]) == ([f"row {number}" for number in range(1, 6)], [])


def test_a_modality_in_one_row_is_all_of_it() -> None:
    config = ModelConfig(dim=8, sequences={"audio": MeanEncoderConfig(), "face": LinearEncoderConfig()})
    config = config.model_copy(update={"fusion": small(NAMES["attention"])})
    model = build_model(config, dims=DIMS, outputs={}, heads={}, scalar_tasks=[]).eval()
    inputs = {name: rows for name, rows in one().items() if name != "video"}
    labels = part_labels(record_maps(model, inputs), inputs, own_rows=model.fusion.own_rows(), tokenizer=None, rates={})
    assert labels == {"query": ["query"], "audio": ["all of it"], "face": ["row 1", "row 2"]}


@pytest.mark.parametrize(
    ("sample", "name"),
    [("clip-1_a.b", "clip-1_a.b"), ("a/b", "a%2Fb"), ("../x", "..%2Fx"), ("é", "%C3%A9"), ("a b<c>", "a%20b%3Cc%3E")],
)
def test_ids_as_names_of_files(sample: str, name: str) -> None:
    assert file_name(sample) == name


def test_long_ids_are_short_names_of_their_own() -> None:
    long = [file_name("x" * 500), file_name("x" * 499 + "y")]
    assert [len(name) for name in long] == [120, 120]
    assert long[0] != long[1]
