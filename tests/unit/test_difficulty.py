"""Difficulties read from stores and prediction files, and what is said where a sample has none."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmtrain.curriculum.pacing.competence import CompetenceConfig
from mmtrain.curriculum.pacing.self_paced import SelfPacedConfig
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.difficulty import read_difficulties
from mmtrain.errors import DataError
from mmtrain.evaluation.data_map import TaskMap
from mmtrain.evaluation.data_map_file import write_data_map
from mmtrain.evaluation.prediction_file import write_predictions
from mmtrain.evaluation.predictions import TaskPredictions

HARD = [5.0, 1.5, None, 3.0, float("nan"), -2.0]
TEXTS = ["hello", "", "a", "what now", "b", "c"]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Six clips: a, b, d, f to train on; b has no label of `funny`, c and e are for validation."""
    columns = {"hard": pa.float64(), "rank": pa.int64(), "huge": pa.float64(), "word": pa.string(), "flag": pa.bool_()}
    with StoreWriter(
        tmp_path / "clips",
        name="clips",
        modalities={"audio": FeatureSpec(dim=2, extractor="none")},
        tasks={"funny": TaskSchema(kind="binary"), "sad": TaskSchema(kind="binary")},
        columns=columns,
    ) as writer:
        for number, name in enumerate("abcdef"):
            writer.add(
                id=name,
                split="val" if name in "ce" else "train",
                group=name,
                text=TEXTS[number],
                features={"audio": np.ones((1, 2))},
                labels={"sad": 1} | ({} if name == "b" else {"funny": 0}),
                columns={"hard": HARD[number], "rank": 10 - number, "huge": 1e300, "word": "x", "flag": True},
            )
    return FeatureStore(tmp_path / "clips")


def stream(store: FeatureStore, *tasks: str, name: str = "clips") -> Stream:
    return Stream(name, store, split="train", tasks=tasks or ("funny", "sad"), modalities=("audio",))


def read(difficulty: dict[str, str], *streams: Stream) -> dict[str, list[float]]:
    found = read_difficulties(CompetenceConfig(difficulty=difficulty), streams)
    assert all(values.dtype == np.float32 for values in found.values())
    return {name: values.tolist() for name, values in found.items()}


def column(name: str) -> dict[str, str]:
    return {"name": "column", "column": name}


def test_columns_and_texts_go_by_the_streams_own_samples(store: FeatureStore) -> None:
    both, one = stream(store), stream(store, "funny", name="few")
    assert read(column("hard"), both, one) == {"clips": [5.0, 1.5, 3.0, -2.0], "few": [5.0, 3.0, -2.0]}
    assert read(column("rank"), one) == {"few": [10, 7, 5]}
    assert read({"name": "text_length"}, both) == {"clips": [5, 0, 8, 1]}


def test_what_is_not_known_before_the_training_is_not_read(store: FeatureStore) -> None:
    assert read({"name": "running"}, stream(store)) == {}
    assert read_difficulties(SelfPacedConfig(), [stream(store)]) == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "harder",
            r"curriculum.pacing.difficulty.column: store 'clips' \(.*\) has no column 'harder'; it has id, .*hard, rank",
        ),
        ("word", r"column: 'word' of store 'clips' \(.*\) is string, not a number; name a numeric column"),
        ("flag", r"'flag' of store 'clips' \(.*\) is bool, not a number"),
        (
            "huge",
            r"column 'huge' of store 'clips' has no finite number for 4 of the 4 training samples of stream 'clips', such "
            r"as 'a'. Fill them in, or use another difficulty",
        ),
    ],
)
def test_columns_that_cannot_order(store: FeatureStore, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(column(name), stream(store))


def test_a_sample_without_a_number_is_named(store: FeatureStore) -> None:
    validation = Stream("clips", store, split="val", tasks=("funny",), modalities=())
    with pytest.raises(DataError, match=r"for 2 of the 2 training samples of stream 'clips', such as 'c'"):  # null and NaN
        read(column("hard"), validation)


def test_a_stream_without_any_text(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = stream(store)
    monkeypatch.setattr(FeatureStore, "text_lengths", np.zeros(6, np.int64))
    with pytest.raises(DataError, match=r"no training sample of stream 'clips' \(store 'clips'\) has a text. Use another"):
        read({"name": "text_length"}, silent)


def predictions(task: str, losses: dict[str, float], streams: str = "clips") -> TaskPredictions:
    count = len(losses)
    zeros = np.zeros(count, np.float32)
    names = np.array(list(losses), object)
    return TaskPredictions(
        task=task,
        kind="binary",
        classes=(),
        ids=names.astype(np.str_),
        streams=np.full(count, streams),
        groups=names.astype(np.str_),
        labels=np.zeros(count),
        logits=zeros,
        probabilities=zeros,
        losses=np.array(list(losses.values()), np.float32),
    )


def test_losses_of_another_run_are_means_over_tasks_by_stream_and_id(store: FeatureStore, tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    own = [predictions("funny", {"d": 3.0, "a": 1.0, "f": 2.0, "x": 9.0}), predictions("sad", {"a": 2.0, "b": 5.0})]
    write_predictions(file, own)
    source = {"name": "predictions", "file": str(file)}
    assert read(source, stream(store)) == {"clips": [1.5, 5.0, 3.0, 2.0]}
    with pytest.raises(
        DataError, match=r"train.parquet has no stream 'talks'; its streams are clips. Give the predictions of"
    ):
        read(source, stream(store), stream(store, name="talks"))
    write_predictions(file, [predictions("funny", {"d": 3.0, "a": 1.0, "f": float("nan")})])
    message = (
        r"train.parquet has no finite loss for 2 of the 4 training samples of stream 'clips', such as 'b'. Give the "
        r"predictions of a run on the same training samples: `mmtrain evaluate RUN --split train` writes them, or use "
        r"another difficulty"
    )
    with pytest.raises(DataError, match=message):
        read(source, stream(store))
    with pytest.raises(DataError, match="no such predictions file"):
        read({"name": "predictions", "file": str(tmp_path / "none.parquet")}, stream(store))


def task_map(task: str, rows: dict[str, tuple[float, float, int, int]], streams: str = "clips") -> TaskMap:
    """id -> confidence, variability, forgetting events, first learned (0: never); over four epochs."""
    confidence, variability, forgotten, first = (np.array(column) for column in zip(*rows.values(), strict=True))
    return TaskMap(
        task=task,
        ids=np.array(list(rows)),
        streams=np.full(len(rows), streams),
        confidence=confidence,
        variability=variability,
        correctness=confidence,
        forgetting_events=forgotten,
        first_learned=first,
        epochs=(1, 2, 3, 4),
    )


def test_a_data_map_is_a_mean_over_tasks_and_never_learned_is_forgotten_every_epoch(
    store: FeatureStore, tmp_path: Path
) -> None:
    file = tmp_path / "data_map.parquet"
    funny = {"d": (0.9, 0.1, 0, 1), "a": (0.5, 0.4, 1, 2), "f": (0.25, 0.3, 0, 0), "x": (0.0, 0.0, 9, 1)}
    sad = {"a": (1.0, 0.0, 2, 1), "b": (0.75, 0.2, 1, 3)}
    write_data_map(file, [task_map("funny", funny), task_map("sad", sad)])

    def by(column: str, *streams: Stream) -> dict[str, list[float]]:
        return read({"name": "data_map", "file": str(file), "column": column}, *(streams or (stream(store),)))

    # the training samples in their order: a, b, d, f
    assert by("confidence")["clips"] == pytest.approx([(0.5 + 0.0) / 2, 0.25, 0.1, 0.75])
    assert read({"name": "data_map", "file": str(file)}, stream(store)) == by("confidence")
    assert by("variability")["clips"] == pytest.approx([0.2, 0.2, 0.1, 0.3])
    assert by("forgetting_events")["clips"] == pytest.approx([1.5, 1, 0, 4])
    with pytest.raises(
        DataError, match=r"data_map.parquet has no variability for 4 of the 4 .* of stream 'talks', such as 'a'"
    ):
        by("variability", stream(store, name="talks"))
    write_data_map(file, [task_map("funny", funny)])
    message = (
        r"curriculum.pacing.difficulty: .*data_map.parquet has no confidence for 1 of the 4 training samples of stream "
        r"'clips', such as 'b'. Give the map of a run on the same training samples \(`mmtrain datamap RUN` writes it; "
        r"regression and pretext tasks are not in it\), or use another difficulty"
    )
    with pytest.raises(DataError, match=message):
        by("confidence")
    with pytest.raises(DataError, match="no such data map"):
        read({"name": "data_map", "file": str(tmp_path / "none.parquet")}, stream(store))
