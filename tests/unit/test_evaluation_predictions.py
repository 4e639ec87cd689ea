"""Predictions on disk: what is written is read back, whole, in a fixed order and with fixed bytes."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmtrain.errors import DataError
from mmtrain.evaluation import prediction_file
from mmtrain.evaluation.evaluate import _batches
from mmtrain.evaluation.prediction_file import read_predictions, write_predictions
from mmtrain.evaluation.predictions import TaskPredictions

KINDS = ("binary", "multiclass", "multilabel", "regression")


def predictions(kind: str, count: int = 5, classes: tuple[str, ...] = ("a", "ü", "c")) -> TaskPredictions:
    generator = np.random.default_rng(count)
    classes = classes if kind in ("multiclass", "multilabel") else ()
    outputs = (count, len(classes)) if classes else (count,)
    labels = generator.integers(0, 2, outputs if kind == "multilabel" else count).astype(np.float64)
    return TaskPredictions(
        task=f"task of {kind}",
        kind=kind,
        classes=classes,
        ids=np.array([f"s{number}" for number in range(count)], np.str_),
        streams=np.array(["first" if number < 3 else "second" for number in range(count)], np.str_),
        groups=np.array([f"g{number // 2}" for number in range(count)], np.str_),
        labels=labels + 1e-12 if kind == "regression" else labels,
        logits=generator.normal(size=outputs).astype(np.float32),
        probabilities=generator.random(outputs).astype(np.float32),
        losses=generator.random(count).astype(np.float32),
    )


def assert_same(found: TaskPredictions, expected: TaskPredictions) -> None:
    assert (found.task, found.kind, found.classes) == (expected.task, expected.kind, expected.classes)
    for name in ("ids", "streams", "groups", "labels", "logits", "probabilities", "losses"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = [predictions(kind) for kind in KINDS] + [predictions("multilabel", 4, ("only",))]
    written[-1] = TaskPredictions(**{**vars(written[-1]), "task": "one tag"})
    write_predictions(tmp_path / "deep" / "val.parquet", written)
    found = read_predictions(tmp_path / "deep" / "val.parquet")
    assert list(found) == [item.task for item in written]
    for item in written:
        assert_same(found[item.task], item)


def test_an_empty_task_survives(tmp_path: Path) -> None:
    empty = [predictions(kind, 0) for kind in KINDS]
    write_predictions(tmp_path / "val.parquet", empty)
    for item in empty:
        assert_same(read_predictions(tmp_path / "val.parquet")[item.task], item)
    write_predictions(tmp_path / "none.parquet", [])
    assert read_predictions(tmp_path / "none.parquet") == {}


def test_order_of_arrival_does_not_change_the_bytes(tmp_path: Path) -> None:
    item = predictions("multiclass")
    write_predictions(tmp_path / "a.parquet", [item])
    write_predictions(tmp_path / "b.parquet", [item.subset(np.array([4, 0, 3, 1, 2]))])
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_columns_are_as_the_design_says(tmp_path: Path) -> None:
    write_predictions(tmp_path / "val.parquet", [predictions("binary"), predictions("multiclass")])
    table = pq.read_table(tmp_path / "val.parquet")
    first = ["id", "task", "kind", "stream", "group", "label", "logits", "probability", "loss"]
    assert table.column_names == [*first, "calibrated", "decision"]
    assert table.num_rows == 10
    row = table.slice(5, 1).to_pylist()[0]
    assert (row["id"], row["kind"], len(row["label"]), len(row["logits"])) == ("s0", "multiclass", 1, 3)


def test_what_validation_chose_is_written_and_read_back(tmp_path: Path) -> None:
    """A temperature of 2 and a threshold of 0.6: of logits ln 9 and ln 2, calibrated 3 / 4 and 0.59, one is called."""
    logits = np.log([9.0, 2.0]).astype(np.float32)
    item = predictions("binary", 2)
    item = replace(item, logits=logits, probabilities=1 / (1 + np.exp(-logits)), temperature=2.0, threshold=0.6)
    written = [item, replace(predictions("regression"), convention="mosi"), predictions("multilabel")]
    write_predictions(tmp_path / "val.parquet", written)
    rows = pq.read_table(tmp_path / "val.parquet").to_pylist()
    assert rows[0]["calibrated"] == pytest.approx([3 / 4])
    assert [row["decision"] for row in rows[:2]] == [[1], [0]]
    assert rows[0]["probability"] == pytest.approx([0.9])
    assert all(row["calibrated"] is row["decision"] is None for row in rows if row["kind"] == "regression")
    assert all(row["calibrated"] is None and len(row["decision"]) == 3 for row in rows if row["kind"] == "multilabel")
    found = list(read_predictions(tmp_path / "val.parquet").values())
    assert (found[0].temperature, found[0].threshold, found[1].convention) == (2.0, 0.6, "mosi")
    assert (found[2].temperature, found[2].threshold) == (None, 0.5)


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    item = predictions("binary")
    write_predictions(tmp_path / "val.parquet", [item])
    table = pq.read_table(tmp_path / "val.parquet").drop_columns(["calibrated", "decision"])
    note = [{"task": item.task, "kind": item.kind, "classes": []}]
    pq.write_table(table.replace_schema_metadata({"mmtrain.predictions": json.dumps(note)}), tmp_path / "old.parquet")
    assert_same(read_predictions(tmp_path / "old.parquet")[item.task], item)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_predictions(tmp_path / "val.parquet", [predictions("binary")])
    before = (tmp_path / "val.parquet").read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(prediction_file.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_predictions(tmp_path / "val.parquet", [predictions("regression")])
    assert (tmp_path / "val.parquet").read_bytes() == before


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"no such predictions file; `mmtrain evaluate .* training.train_predictions: true",
    ):
        read_predictions(tmp_path / "val.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(DataError, match="not a predictions file"):
        read_predictions(tmp_path / "text.parquet")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"not a predictions file \(columns id\)"):
        read_predictions(tmp_path / "other.parquet")


@pytest.mark.parametrize(("count", "sizes"), [(9, [5, 4]), (8, [8]), (17, [6, 6, 5]), (1, [1])])
def test_no_pass_is_left_with_a_single_sample(count: int, sizes: list[int]) -> None:
    """Like lengths together, the longest first, each once: 9 samples are 5 and 4, not 8 and 1."""
    lengths = np.arange(20) % 7
    stream = SimpleNamespace(lengths=lambda: lengths)
    chosen = np.arange(20)[:count]
    found = _batches([stream], {0: chosen}, 8)
    assert [len(part) for _, part in found] == sizes
    order = [position for _, part in found for position in part.tolist()]
    assert order == sorted(chosen.tolist(), key=lambda position: -lengths[position])
