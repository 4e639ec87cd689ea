"""Data maps by hand: confidence, variability, correctness, what was learned when and forgotten how often; and the file."""

import math
from pathlib import Path

import numpy as np
import pytest

from mmtrain.errors import DataError
from mmtrain.evaluation.breakdown import Part, break_down
from mmtrain.evaluation.data_map import is_right, map_tasks, true_confidence
from mmtrain.evaluation.data_map_file import read_data_map, write_data_map
from mmtrain.evaluation.predictions import PretextPredictions, TaskPredictions

# probabilities of class 1 by epoch, of samples a (label 1), b (label 0) and c (label 1)
FUNNY = {2: [0.9, 0.6, 0.2], 3: [0.4, 0.1, 0.4], 5: [0.8, 0.7, 0.3], 6: [0.1, 0.2, 0.1]}


def predictions(kind: str, labels: object, probabilities: object, *, task: str = "t", ids: str = "abc") -> TaskPredictions:
    values = np.array(probabilities, np.float32)
    count = len(values)
    return TaskPredictions(
        task=task,
        kind=kind,  # type: ignore[arg-type]
        classes=() if values.ndim == 1 else tuple("xyz"[: values.shape[1]]),
        ids=np.array(list(ids[:count])),
        streams=np.full(count, "clips"),
        groups=np.full(count, "g"),
        labels=np.array(labels, np.float64),
        logits=values,
        probabilities=values,
        losses=np.zeros(count),
    )


def funny(values: list[float], **more: str) -> TaskPredictions:
    return predictions("binary", [1, 0, 1], values, task="funny", **more)


def test_a_map_of_four_epochs() -> None:
    found = map_tasks((epoch, {"funny": funny(values)}) for epoch, values in FUNNY.items())
    assert len(found) == 1
    own = found[0]
    assert (own.task, own.ids.tolist(), own.epochs) == ("funny", ["a", "b", "c"], (2, 3, 5, 6))
    # of the true class: a .9 .4 .8 .1, b .4 .9 .3 .8, c .2 .4 .3 .1
    assert own.confidence == pytest.approx([0.55, 0.6, 0.25])
    variances = [(0.35**2 + 0.15**2 + 0.25**2 + 0.45**2) / 4, (0.2**2 + 0.3**2 + 0.3**2 + 0.2**2) / 4]
    variances += [(0.05**2 + 0.15**2 + 0.05**2 + 0.15**2) / 4]
    assert own.variability == pytest.approx([math.sqrt(value) for value in variances])
    # right: a yes no yes no, b no yes no yes, c never
    assert own.correctness.tolist() == [0.5, 0.5, 0.0]
    assert own.forgetting_events.tolist() == [2, 1, 0]
    assert own.first_learned.tolist() == [2, 3, 0]


def test_confidence_of_every_kind() -> None:
    mood = predictions("multiclass", [2, 0], [[0.2, 0.3, 0.5], [0.3, 0.6, 0.1]])
    assert true_confidence(mood) == pytest.approx([0.5, 0.3])
    assert is_right(mood).tolist() == [True, False]
    tags = predictions("multilabel", [[1, 0, 1], [0, 0, 1]], [[0.9, 0.2, 0.6], [0.1, 0.3, 0.4]])
    assert true_confidence(tags) == pytest.approx([(0.9 + 0.8 + 0.6) / 3, (0.9 + 0.7 + 0.4) / 3])
    assert is_right(tags).tolist() == [True, False]
    assert true_confidence(funny([0.5, 0.5, 0.9])) == pytest.approx([0.5, 0.5, 0.9])
    assert is_right(funny([0.5, 0.5, 0.9])).tolist() == [False, True, True], "0.5 is no more than 0.5"


def test_regression_and_pretext_tasks_have_none() -> None:
    names = np.array(["a"])
    pretext = PretextPredictions(task="mask", ids=names, streams=names, groups=names, losses=np.zeros(1))
    epoch = {"pitch": predictions("regression", [1.0], [2.0], task="pitch"), "mask": pretext}
    assert map_tasks([(1, epoch), (2, epoch)]) == []


def test_epochs_of_two_runs_are_no_map() -> None:
    first = (1, {"funny": funny(FUNNY[2])})
    with pytest.raises(DataError, match=r"epoch 4 hold other samples of task 'funny' than those of epoch 1: .* of one run"):
        map_tasks([first, (4, {"funny": funny(FUNNY[3], ids="abd")})])
    with pytest.raises(DataError, match=r"predictions of epoch 2 hold other tasks \(none\) than those of epoch 1"):
        map_tasks([first, (2, {})])
    with pytest.raises(DataError, match=r"task 'funny', sample 'b' .* NaN or Inf"):
        map_tasks([(1, {"funny": funny([0.1, math.nan, 0.2])})])


def test_the_file_says_never_as_null(tmp_path: Path) -> None:
    file = tmp_path / "new" / "data_map.parquet"
    write_data_map(file, map_tasks((epoch, {"funny": funny(values)}) for epoch, values in FUNNY.items()))
    rows = read_data_map(file).to_pylist()
    assert list(rows[2].items())[:3] == [("id", "c"), ("stream", "clips"), ("task", "funny")]
    assert [row["first_learned"] for row in rows] == [2, 3, None]
    assert [(row["forgetting_events"], row["epochs"]) for row in rows] == [(2, 4), (1, 4), (0, 4)]
    assert rows[0]["confidence"] == pytest.approx(0.55)
    assert not [path for path in file.parent.iterdir() if path != file]


def test_what_is_no_map(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(DataError, match=r"none.parquet: no such data map; `mmtrain datamap RUN` writes"):
        read_data_map(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(DataError, match=r"text.parquet: not a data map \("):
        read_data_map(tmp_path / "text.parquet")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"not a data map \(columns id\); `mmtrain datamap RUN` writes one"):
        read_data_map(tmp_path / "other.parquet")


def test_groups_and_streams_by_hand() -> None:
    item = TaskPredictions(
        task="mood",
        kind="regression",
        classes=(),
        ids=np.array(list("abcdefg")),
        streams=np.array(["s", "s", "s", "s", "s", "t", "t"]),
        groups=np.array(["x", "y", "x", "x", "y", "x", "x"]),
        labels=np.array([1.0, 2, 2, 3, 4, 1, 1]),
        logits=np.zeros(7),
        probabilities=np.array([2.0, 3, 4, 6, 1, 0, 2]),
        losses=np.array([1.0, 5.0, 2.0, 3.0, 1.0, 9.0, 7.0]),
    )
    found = break_down(item)
    assert (found.task, found.metric) == ("mood", "pearson")
    assert [(part.stream, part.group, part.num_samples, part.loss) for part in found.groups] == [
        ("t", "x", 2, 8.0),
        ("s", "y", 2, 3.0),
        ("s", "x", 3, 2.0),
    ]
    worst, second, third = found.groups
    assert (worst.loss_std, second.loss_std) == (1.0, 2.0)
    assert third.loss_std == pytest.approx(math.sqrt(2 / 3))
    assert math.isnan(worst.value), "labels that are all alike correlate with nothing"
    assert (second.value, third.value) == (pytest.approx(-1), pytest.approx(1))
    assert [(part.stream, part.group, part.num_samples, part.loss) for part in found.streams] == [
        ("s", None, 5, 2.4),
        ("t", None, 2, 8.0),
    ]


def test_samples_of_a_pretext_task_without_a_loss_are_in_no_group() -> None:
    names = np.array(["a", "b", "c"])
    item = PretextPredictions(task="m", ids=names, streams=names, groups=names, losses=np.array([2.0, math.nan, math.inf]))
    found = break_down(item)
    assert found.metric == "loss"
    assert (found.groups[0].group, found.groups[0].loss) == ("c", math.inf)
    assert found.groups[1:] == (Part(stream="a", group="a", num_samples=1, loss=2.0, loss_std=0.0, value=2.0),)
