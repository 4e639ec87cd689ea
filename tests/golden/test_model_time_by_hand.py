"""Times of rows, and what they do to rows and to attention, against numbers done by hand and plain float64 loops."""

import math

import pytest
import torch

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.block import MultiHeadAttention
from mmtrain.models.fusion.cross_attention import CrossAttentionFusionConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.model import ModelConfig, MultimodalModel, build_model
from mmtrain.models.pooling.mean import MeanPoolingConfig
from mmtrain.models.time import TimeDistance, TimePositions, row_times, set_rates

CPU = torch.device("cpu")


def test_a_long_row_stands_amid_the_short_ones_of_its_time() -> None:
    assert row_times(2, 1.0, CPU).tolist() == [0.5, 1.5]
    short = row_times(20, 10.0, CPU)
    assert short[0].item() == pytest.approx(0.05)
    assert short.reshape(2, 10).mean(dim=1).tolist() == pytest.approx([0.5, 1.5])


def test_time_positions() -> None:
    place = TimePositions(rates={"audio": 4.0}, per_second=10)
    rows = MaskedSequence(torch.tensor([[[1.0, 1, 1, 1], [math.nan] * 4]]), torch.tensor([[True, False]]))
    found = place("audio", rows)
    # the first row's middle is 1/8 s = 1.25 positions; features 2 and 3 turn 100 times slower
    by_hand = [1 + math.sin(1.25), 1 + math.cos(1.25), 1 + math.sin(0.0125), 1 + math.cos(0.0125)]
    torch.testing.assert_close(found.values[0], torch.tensor([by_hand, [0.0] * 4]))
    assert place("video", rows) is rows


def test_distance_in_time() -> None:
    distance = TimeDistance(slope=2.0, heads=2)
    distance.rates = {"audio": 2.0, "video": 1.0}
    found = distance("audio", "video", torch.zeros(1, 4, 8), torch.zeros(1, 2, 8))
    # audio rows at .25 .75 1.25 1.75 s, video rows at .5 and 1.5 s; the heads lose 2/16 and 2/256 a second
    seconds = torch.tensor([[0.25, 1.25], [0.25, 0.75], [0.75, 0.25], [1.25, 0.25]])
    torch.testing.assert_close(found, torch.stack([-seconds / 8, -seconds / 128]))
    assert distance("audio", "text", torch.zeros(1, 4, 8), torch.zeros(1, 2, 8)) is None


@torch.no_grad
def test_biased_attention_in_plain_loops() -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(dim=4, heads=2, dropout=0.0).double()
    queries, context, mask = (
        torch.randn(1, 3, 4).double(),
        torch.randn(1, 5, 4).double(),
        torch.tensor([[True] * 4 + [False]]),
    )
    bias = torch.randn(2, 3, 5).double()
    found = attention(queries, context, mask, bias)[0]
    query, key, value = attention.query(queries)[0], attention.key(context)[0], attention.value(context)[0]
    for head in range(2):
        part = slice(2 * head, 2 * head + 2)
        for row in range(3):
            scores = [
                math.exp(float(query[row, part] @ key[col, part]) / math.sqrt(2) + float(bias[head, row, col]))
                for col in range(4)
            ]
            expected = sum(score * value[col, part] for col, score in enumerate(scores)) / sum(scores)
            torch.testing.assert_close(found[row, part], expected)


def test_far_rows_are_not_read_where_the_slope_is_steep() -> None:
    """Two modalities of different rates; at a huge slope each audio row reads the one video row of its own second."""
    torch.manual_seed(0)
    config = CrossAttentionFusionConfig(heads=1, layers=1, self_layers=1, relative_time={"slope": 1e6})
    fusion = config.build(modalities=("audio", "video"), dim=4, pooling=MeanPoolingConfig()).eval()
    set_rates(fusion, {"audio": 2.0, "video": 1.0}, ("audio", "video"))
    block = fusion.readers["audio_reader"]["video_blocks"][0]
    audio, video = torch.randn(1, 6, 4), MaskedSequence(torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool))
    bias = fusion.relative_time("audio", "video", audio, video.values)
    reference = block(audio, video, bias)
    for second in range(3):
        changed = video.values.clone()
        changed[0, second, 0] += 1  # all of it would vanish in the norm
        moved = (block(audio, MaskedSequence(changed, video.mask), bias) - reference).abs().amax(dim=2)[0] > 1e-6
        assert moved.tolist() == [row // 2 == second for row in range(6)]


def built(**settings) -> MultimodalModel:
    config = ModelConfig(dim=8, sequences={"audio": {"name": "linear"}, "video": {"name": "linear"}}, **settings)
    torch.manual_seed(0)
    heads = {"funny": LinearHeadConfig(dropout=0)}
    return build_model(
        config,
        dims={"audio": 3, "video": 2},
        outputs={"funny": 1},
        heads=heads,
        scalar_tasks=["funny"],
        rates={"audio": 10.0, "video": 1.0},
    ).eval()


def batch(*, more: int = 0, junk: float = math.nan, without: str = "") -> dict[str, MaskedSequence]:
    inputs = {}
    for name, dim, length in (("audio", 3, 20), ("video", 2, 2)):
        real = torch.arange(length + more) < torch.tensor([length, length // 2])[:, None]
        real[1] &= name != without
        values = torch.randn(2, length, dim, generator=torch.Generator().manual_seed(dim))
        padded = torch.full((2, length + more, dim), junk)
        padded[:, :length] = values
        inputs[name] = MaskedSequence(padded.masked_fill(~real[..., None], junk), real)
    return inputs


TIMED = [{"time_positions": {}}, {"fusion": {"name": "cross_attention", "relative_time": {"slope": 8.0}}}]


@pytest.mark.parametrize(
    "settings", [*TIMED, {"placeholders": ["audio", "video"]}], ids=["marks", "distance", "placeholders"]
)
@pytest.mark.parametrize("without", ["", "audio", "video"])
def test_what_lies_under_the_mask_stays_invisible(settings, without: str) -> None:
    model = built(**settings)
    expected = model(batch(without=without))
    found = model(batch(without=without, more=3, junk=1e4))
    torch.testing.assert_close(found.joint, expected.joint, atol=1e-5, rtol=0)
    assert expected.joint.isfinite().all()
    for name, vector in expected.per_modality.items():
        assert vector[1].any().item() == (name != without)
    expected.logits["funny"].sum().backward()
    model.train()(batch(without=without)).logits["funny"].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("settings", TIMED, ids=str)
def test_the_rate_changes_the_result(settings) -> None:
    one, other = built(**settings), built(**settings)
    assert torch.equal(one(batch()).joint, other(batch()).joint)
    for module in other.modules():
        if isinstance(module, TimePositions | TimeDistance):
            module.rates["audio"] = 5.0
    assert not torch.allclose(one(batch()).joint, other(batch()).joint, atol=1e-4)


def test_a_placeholder_is_read_as_a_row_and_learns_only_where_it_stands() -> None:
    model = built(placeholders=["audio"], fusion={"name": "sum", "dropout": 0})
    row = model.placeholders.rows["audio_row"]
    for without, learns in (("", False), ("video", False), ("audio", True)):
        model.zero_grad(set_to_none=True)
        model(batch(without=without)).logits["funny"].sum().backward()
        assert row.grad.any().item() == learns
    before = model(batch(without="audio")).joint.detach()
    with torch.no_grad():
        row += 1
    changed = model(batch(without="audio")).joint - before
    assert not changed[0].any()  # this sample has its audio
    assert changed[1].any()


@pytest.mark.parametrize(
    ("settings", "rates", "message"),
    [
        ({"time_positions": {}}, {}, "model.time_positions: no modality that is read row by row has rows per second"),
        (TIMED[1], {"audio": 2.0}, "relative_time: it needs two modalities .* of audio, video audio has them"),
        (TIMED[1], {}, "of audio, video none has them"),
    ],
)
def test_where_there_are_no_times_it_is_said(settings, rates, message: str) -> None:
    config = ModelConfig(dim=8, sequences={"audio": {"name": "linear"}, "video": {"name": "linear"}}, **settings)
    with pytest.raises(ConfigError, match=message):
        build_model(
            config,
            dims={"audio": 3, "video": 2},
            outputs={"funny": 1},
            heads={"funny": LinearHeadConfig()},
            scalar_tasks=[],
            rates=rates,
        )


def test_a_pooled_modality_has_no_rows_to_place() -> None:
    config = ModelConfig(dim=8, sequences={"audio": {"name": "mean"}}, time_positions={})
    with pytest.raises(ConfigError, match="no modality that is read row by row"):
        build_model(config, dims={"audio": 3}, outputs={}, heads={}, scalar_tasks=[], rates={"audio": 1.0})


def test_a_placeholder_for_what_is_not_read_is_refused() -> None:
    with pytest.raises(ValueError, match="`placeholders` names 'face', which the model does not read; it reads audio"):
        ModelConfig(sequences={"audio": {"name": "linear"}}, placeholders=["face"])
