"""Permutation importance: who takes part in a swap, and what it makes of predictions, by hand."""

import numpy as np
import pytest

from mmtrain.data.dataset import Stream
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.evaluation.importance import Swap, importance_of
from mmtrain.evaluation.predictions import PretextPredictions, TaskPredictions

COUNT = 40  # every fourth lacks audio, every fifth text; the last has no label


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> list[Stream]:
    place = tmp_path_factory.mktemp("store") / "clips"
    tasks = {"funny": TaskSchema(kind="binary")}
    with StoreWriter(place, name="clips", modalities={"audio": FeatureSpec(dim=1)}, tasks=tasks) as writer:
        writer.add(id="other", split="train", group="t", features={"audio": np.full((1, 1), 99.0)}, labels={"funny": 1})
        for number in range(COUNT):
            writer.add(
                id=f"s{number}",
                split="val",
                group="g",
                text="" if number % 5 == 0 else f"text {number}",
                features={} if number % 4 == 0 else {"audio": np.full((1 + number % 3, 1), number)},
                labels={"funny": number % 2} if number < COUNT - 1 else {},
            )
    store = FeatureStore(place)
    return [
        Stream("both", store, split="val", tasks=["funny"], modalities=["text", "audio"]),
        Stream("silent", store, split="val", tasks=["funny"], modalities=["text"]),
    ]


def test_the_modality_goes_round_among_those_that_have_it_in_the_stream(streams: list[Stream]) -> None:
    swap = Swap(streams, modality="audio", seed=1, repeat=0)
    stream = streams[0]
    before = [stream.sample(position) for position in range(len(stream))]
    after = [swap(sample, stream) for sample in before]
    for one, other in zip(before, after, strict=True):
        assert set(one.features) == set(other.features), "who has none gets none"
        assert (one.id, one.text, one.labels) == (other.id, other.text, other.labels)
    rows = [[sample.features["audio"].tolist() for sample in side if "audio" in sample.features] for side in (before, after)]
    assert sorted(rows[0]) == sorted(rows[1]), "each one's goes to one: a whole sequence, of its own length"
    assert len(rows[0]) == swap.num_swapped == 29  # of 39 with a label, 10 have no audio
    moved = sum(one != other for one, other in zip(*rows, strict=True))
    assert moved > 20
    own = streams[1].sample(3)
    assert swap(own, streams[1]) == own


def test_texts_go_round_and_blank_ones_stay(streams: list[Stream]) -> None:
    swap = Swap(streams, modality="text", seed=1, repeat=0)
    before = [streams[0].sample(position) for position in range(len(streams[0]))]
    after = [swap(sample, streams[0]) for sample in before]
    assert sorted(sample.text for sample in before) == sorted(sample.text for sample in after)
    assert [not one.text for one in before] == [not other.text for other in after]
    assert sum(one.text != other.text for one, other in zip(before, after, strict=True)) > 20


def test_a_swap_is_the_same_for_a_seed_and_another_in_every_repeat(streams: list[Stream]) -> None:
    def order(**key: int) -> list[str]:
        swap = Swap(streams, modality="text", **key)
        return [swap(streams[0].sample(position), streams[0]).text for position in range(len(streams[0]))]

    assert order(seed=1, repeat=0) == order(seed=1, repeat=0)
    assert order(seed=1, repeat=0) != order(seed=1, repeat=1) != order(seed=2, repeat=0)


def mood(chosen: list[int]) -> TaskPredictions:
    """Three classes, labels 0 1 2 0 1 2 0 1; groups of two."""
    count = len(chosen)
    probabilities = np.eye(3)[chosen]
    return TaskPredictions(
        task="mood",
        kind="multiclass",
        classes=("a", "b", "c"),
        ids=np.array([str(number) for number in range(count)]),
        streams=np.full(count, "s"),
        groups=np.array([f"g{number // 2}" for number in range(count)]),
        labels=np.arange(count) % 3.0,
        logits=probabilities,
        probabilities=probabilities,
        losses=np.zeros(count),
    )


def test_the_drop_is_the_metric_less_the_mean_over_the_repeats() -> None:
    right = [0, 1, 2, 0, 1, 2, 0, 1]
    first, second = [0, 1, 2, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0, 1, 0]  # 4 and 2 of 8 are right
    found = importance_of("audio", mood(right), [mood(first), mood(second)], num_swapped=5, seed=0)
    assert (found.metric, found.value, found.permuted, found.drop) == ("accuracy", 1.0, 0.375, 0.625)
    assert (found.modality, found.task, found.repeats, found.num_swapped) == ("audio", "mood", 2, 5)
    assert 0 <= found.low < 0.625 < found.high <= 1  # of the groups, one loses nothing and two lose all


def test_what_every_group_loses_alike_has_an_interval_of_no_width() -> None:
    right = [0, 1, 2, 0, 1, 2, 0, 1]
    half = [0, 2, 2, 1, 1, 0, 0, 2]  # one of each group's two
    found = importance_of("audio", mood(right), [mood(half)], num_swapped=8, seed=0)
    assert (found.drop, found.low, found.high) == (0.5, 0.5, 0.5)
    nothing = importance_of("audio", mood(half), [mood(half), mood(half)], num_swapped=8, seed=0)
    assert (nothing.drop, nothing.low, nothing.high) == (0.0, 0.0, 0.0)


def test_where_lower_is_better_a_rise_is_a_drop() -> None:
    def losses(value: float) -> PretextPredictions:
        names = np.array(["a", "b"])
        return PretextPredictions(task="mask", ids=names, streams=names, groups=names, losses=np.array([value, value + 1]))

    found = importance_of("audio", losses(1.0), [losses(3.0)], num_swapped=2, seed=0)
    assert (found.metric, found.value, found.permuted, found.drop) == ("loss", 1.5, 3.5, 2.0)


def test_a_stream_without_the_modality_takes_no_part(streams: list[Stream]) -> None:
    assert Swap(streams[1:], modality="audio", seed=0, repeat=0).num_swapped == 0
