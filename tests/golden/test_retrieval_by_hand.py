"""Retrieval metrics against numbers done by hand and a plain loop over queries and candidates."""

from dataclasses import replace

import numpy as np
import pytest

from mmtrain.errors import DataError
from mmtrain.evaluation.comparison import over_groups
from mmtrain.evaluation.predictions import PretextPredictions
from mmtrain.evaluation.pretext_metrics import pretext_baseline, pretext_metrics, pretext_statistic
from mmtrain.evaluation.retrieval import directions, retrieval_chance, retrieval_names, retrieval_ranks, retrieval_statistic
from mmtrain.evaluation.split_metrics import split_metrics

PAIRS = (("text", "audio"), ("audio", "video"))
NAMES = ["text_to_audio", "audio_to_text", "audio_to_video", "video_to_audio"]


def at(*degrees: float) -> np.ndarray:
    """Unit vectors of the plane; NaN is none."""
    angles = np.radians(np.array(degrees))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def predictions(ranks: dict[str, list[float]], candidates: dict[str, list[float]]) -> PretextPredictions:
    count = len(next(iter(ranks.values())))
    ids = np.array([f"s{n}" for n in range(count)])
    arrays = [{name: np.array(values) for name, values in part.items()} for part in (ranks, candidates)]
    return PretextPredictions(
        task="align",
        ids=ids,
        streams=np.full(count, "a"),
        groups=ids,
        losses=np.ones(count),
        ranks=arrays[0],
        candidates=arrays[1],
    )


def test_ranks_of_four_samples_by_hand() -> None:
    """Texts at 0, 10, 50, 90 degrees; sounds at 4, 30, 60, 0: text 0 is nearest to sound 3, then to its own."""
    ranks, candidates = retrieval_ranks({"text": at(0, 10, 50, 90), "audio": at(4, 30, 60, 0)}, np.arange(4), PAIRS[:1])
    # from text 10: sound 4 (6 away), 0 (10), 30 (20): third; from 50: 60 first; from 90: 60, 30, 4, 0: last
    assert ranks["text_to_audio"].tolist() == [2, 3, 1, 4]
    # from sound 4: text 0; from 30: 10 and 50 are as near, a tie that counts; from 60: 50; from 0: 0, 10, 50, 90
    assert ranks["audio_to_text"].tolist() == [1, 2, 1, 4]
    assert candidates["text_to_audio"].tolist() == [4, 4, 4, 4]


def test_embeddings_that_are_all_alike_find_nothing() -> None:
    same = np.tile(at(20), (12, 1))
    ranks, _ = retrieval_ranks({"text": same, "audio": same}, np.arange(12), PAIRS[:1])
    assert ranks["text_to_audio"].tolist() == [12] * 12
    broken = np.concatenate([same[:11], np.array([[0.5, np.nan]])])  # finite enough to be there, and worth nothing
    assert retrieval_ranks({"text": broken, "audio": same}, np.arange(12), PAIRS[:1])[0]["text_to_audio"][11] == 12


def test_a_candidate_with_the_querys_text_is_left_out() -> None:
    """Samples 0 and 1 say the same, and each finds the other's sound before its own."""
    text, audio = at(0, 0, 90), at(30, 5, 91)
    assert retrieval_ranks({"text": text, "audio": audio}, np.arange(3), PAIRS[:1])[0]["text_to_audio"].tolist() == [2, 1, 1]
    ranks, candidates = retrieval_ranks({"text": text, "audio": audio}, np.array([7, 7, 8]), PAIRS[:1])
    assert ranks["text_to_audio"].tolist() == [1, 1, 1]
    assert candidates["text_to_audio"].tolist() == [2, 2, 3]


@pytest.mark.parametrize("chunk", [1, 3, 256])
def test_ranks_equal_a_loop(chunk: int) -> None:
    generator = np.random.default_rng(0)
    count, keys = 25, np.arange(25) % 20
    embeddings = {}
    for name in ("text", "audio", "video"):
        values = generator.integers(-1, 2, (count, 3)).astype(np.float32)  # few values: many ties
        values[generator.random(count) < 0.3] = np.nan
        embeddings[name] = values
    ranks, candidates = retrieval_ranks(embeddings, keys, PAIRS, chunk=chunk)
    assert list(ranks) == [name for name, _, _ in directions(PAIRS)] == NAMES
    for name, source, target in directions(PAIRS):
        having = [
            i for i in range(count) if np.isfinite(embeddings[source][i]).all() and np.isfinite(embeddings[target][i]).all()
        ]
        for i in range(count):
            if i not in having:
                assert np.isnan(ranks[name][i])
                assert np.isnan(candidates[name][i])
                continue
            others = [j for j in having if keys[j] != keys[i]]
            own = float(embeddings[source][i] @ embeddings[target][i])
            ahead = [j for j in others if float(embeddings[source][i] @ embeddings[target][j]) >= own]
            assert ranks[name][i] == 1 + len(ahead)
            assert candidates[name][i] == 1 + len(others)


def test_what_ranks_sum_up_to() -> None:
    ranks = {"text_to_audio": [1.0, 3, 12, np.nan], "audio_to_text": [2.0, 5, np.nan, np.nan]}
    item = predictions(ranks, {"text_to_audio": [20.0] * 3 + [np.nan], "audio_to_text": [4.0, 8, np.nan, np.nan]})
    found = dict(pretext_metrics(item))
    assert list(found) == retrieval_names(["text_to_audio", "audio_to_text"])
    assert found["text_to_audio_recall@1"] == pytest.approx(1 / 3)
    assert found["text_to_audio_recall@5"] == pytest.approx(2 / 3)
    assert found["audio_to_text_recall@5"] == 1
    assert found["recall@5"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["text_to_audio_median_rank"] == 3
    assert found["audio_to_text_median_rank"] == 3.5
    assert found["median_rank"] == 3.25
    assert pretext_baseline(item, "text_to_audio_recall@5") == pytest.approx(5 / 20)
    assert pretext_baseline(item, "audio_to_text_recall@5") == pytest.approx((1 + 5 / 8) / 2)
    assert pretext_baseline(item, "median_rank") == pytest.approx((10.5 + (2.5 + 4.5) / 2) / 2)
    again = pretext_statistic(item, "recall@1")
    assert again(np.array([0, 0, 1])) == pytest.approx((2 / 3 + 0) / 2)  # a resample with repeats
    assert again(np.array([2])) == 0  # the one direction that it has
    assert np.isnan(again(np.array([3])))
    assert np.isnan(retrieval_chance("recall@1", {"text_to_audio": np.array([np.nan])}))
    assert np.isnan(retrieval_statistic("recall@1", {})(np.arange(2)))
    assert pretext_statistic(item, "loss")(np.arange(2)) == 1


def test_chance_is_what_random_rankings_give() -> None:
    generator = np.random.default_rng(1)
    found = []
    for _ in range(40):
        drawn = {name: generator.standard_normal((50, 8)) for name in ("text", "audio")}
        ranks, candidates = retrieval_ranks(drawn, np.arange(50), PAIRS[:1])
        found.append([retrieval_statistic(name, ranks)(np.arange(50)) for name in ("recall@10", "median_rank")])
    means = np.mean(found, axis=0)
    assert means[0] == pytest.approx(retrieval_chance("recall@10", candidates), abs=0.02)
    assert means[1] == pytest.approx(retrieval_chance("median_rank", candidates), rel=0.05)


def test_samples_without_a_loss_are_ranked_but_do_not_enter_the_losses() -> None:
    names = np.array(["0", "1", "2"])
    losses = np.array([1.0, np.nan, 3.0])
    item = PretextPredictions(task="t", ids=names, streams=np.array(["s"] * 3), groups=names, losses=losses)
    none = replace(item, task="u", losses=np.full(3, np.nan))
    found = split_metrics("val", [item, none])
    assert found["val/t/loss"] == found["val/loss"] == 2
    assert found["val/t/loss_std"] == 1
    assert np.isnan(found["val/u/loss"])
    assert over_groups({"t": item, "u": none}, "t/loss").mean == over_groups({"t": item, "u": none}, "loss").mean == 2
    with pytest.raises(DataError, match="u/loss: no sample has a loss of this task"):
        over_groups({"t": item, "u": none}, "u/loss")
