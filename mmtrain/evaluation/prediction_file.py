"""Predictions on disk: one parquet file, one row per sample and task."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmtrain.errors import DataError
from mmtrain.evaluation.predictions import Predictions, PretextPredictions, TaskPredictions

_KEY = b"mmtrain.predictions"
_FIELDS = [
    ("id", pa.string()),
    ("task", pa.string()),
    ("kind", pa.string()),
    ("stream", pa.string()),
    ("group", pa.string()),
    ("label", pa.list_(pa.float64())),
    ("logits", pa.list_(pa.float32())),
    ("probability", pa.list_(pa.float32())),
    ("loss", pa.float32()),
    ("calibrated", pa.list_(pa.float32())),
    ("decision", pa.list_(pa.int32())),
]
_FIRST = 9  # columns that files of earlier versions have


def write_predictions(path: str | Path, predictions: Sequence[Predictions]) -> None:
    """Write tasks in the given order, rows of a task by stream and id: equal content gives equal bytes.

    Lists have one entry for binary and regression, C for multilabel; multiclass has one label and C logits; pretext tasks
    have losses and no lists. `logits` and `probability` are the model's own; `calibrated` is the probability after the
    temperature that validation chose, and null without one; `decision` is by the threshold, and null for a regression.
    The file appears whole or not at all. Names of classes, temperature and threshold stand in its metadata.
    """
    path = Path(path)
    notes = [_note(item) for item in predictions]
    schema = pa.schema(_FIELDS, metadata={_KEY: json.dumps(notes).encode()})
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as handle:
            with pq.ParquetWriter(handle, schema, compression="zstd") as writer:
                for item in predictions:
                    writer.write_table(_rows(item, schema))
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def _note(item: Predictions) -> dict[str, Any]:
    """What is read back beside the rows."""
    note: dict[str, Any] = {"task": item.task, "kind": item.kind, "classes": item.classes}
    if isinstance(item, TaskPredictions):
        note |= {name: getattr(item, name) for name in ("convention", "temperature", "threshold")}
    return note


def _rows(item: Predictions, schema: pa.Schema) -> pa.Table:
    item = item.subset(np.lexsort((item.ids, item.streams)))
    names = (item.ids, np.full(len(item), item.task), np.full(len(item), item.kind), item.streams, item.groups)
    columns = [pa.array(column.astype(object), pa.string()) for column in names]
    if isinstance(item, TaskPredictions):
        columns += [_lists(item.labels, pa.float64()), _lists(item.logits, pa.float32())]
        columns += [_lists(item.probabilities, pa.float32())]
    else:
        columns += [pa.nulls(len(item), schema.field(name).type) for name in ("label", "logits", "probability")]
    columns += [pa.array(item.losses.astype(np.float32)), *_decided(item, schema)]
    return pa.Table.from_arrays(columns, schema=schema)


def _decided(item: Predictions, schema: pa.Schema) -> list[pa.Array]:
    """`calibrated` and `decision`."""
    nulls = [pa.nulls(len(item), schema.field(name).type) for name in ("calibrated", "decision")]
    if not isinstance(item, TaskPredictions) or item.kind == "regression":
        return nulls
    if not np.isfinite(item.probabilities).all():  # refused where it is scored
        return nulls
    from mmtrain.evaluation.calibration import calibrated_probabilities  # torch comes with them
    from mmtrain.evaluation.metrics import predicted_classes

    chosen = _lists(predicted_classes(item).numpy(), pa.int32())
    return [nulls[0] if item.temperature is None else _lists(calibrated_probabilities(item), pa.float32()), chosen]


def _lists(values: npt.NDArray[Any], kind: pa.DataType) -> pa.ListArray:
    width = 1 if values.ndim == 1 else values.shape[1]
    flat = values.ravel().astype(kind.to_pandas_dtype())
    return pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32) * width, pa.array(flat, kind))


def read_predictions(path: str | Path) -> dict[str, Predictions]:
    """Read what `write_predictions` wrote, by task; of pretext tasks the losses.

    Errors: DataError where the file is missing or another one.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such predictions file; `mmtrain evaluate RUN --split SPLIT` writes a split's, "
            "training.train_predictions: true those of the training samples after every epoch"
        ) from None
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a predictions file ({error})") from None
    notes = (table.schema.metadata or {}).get(_KEY)
    names = [name for name, _ in _FIELDS]
    if notes is None or table.column_names not in (names, names[:_FIRST]):
        raise DataError(f"{path}: not a predictions file (columns {', '.join(table.column_names)})")
    read: dict[str, Predictions] = {}
    for note in json.loads(notes):
        rows = table.filter(pc.equal(table["task"], note["task"])).combine_chunks()
        width = len(note["classes"]) if note["kind"] in ("multiclass", "multilabel") else 0
        ids, streams, groups = (_strings(rows[name]) for name in ("id", "stream", "group"))
        if note["kind"] == "pretext":
            losses = rows["loss"].to_numpy()
            read[note["task"]] = PretextPredictions(
                task=note["task"], ids=ids, streams=streams, groups=groups, losses=losses
            )
            continue
        read[note["task"]] = TaskPredictions(
            task=note["task"],
            kind=note["kind"],
            classes=tuple(note["classes"]),
            ids=ids,
            streams=streams,
            groups=groups,
            labels=_array(rows["label"], width if note["kind"] == "multilabel" else 0),
            logits=_array(rows["logits"], width),
            probabilities=_array(rows["probability"], width),
            losses=rows["loss"].to_numpy(),
            **{name: note[name] for name in ("convention", "temperature", "threshold") if name in note},
        )
    return read


def _strings(column: pa.ChunkedArray) -> npt.NDArray[np.str_]:
    return np.array(column.to_pylist(), np.str_)


def _array(column: pa.ChunkedArray, width: int) -> npt.NDArray[Any]:
    flat = np.array(pc.list_flatten(column).to_numpy())  # a copy: what pyarrow lends cannot be written to, which torch minds
    return flat.reshape(-1, width) if width else flat
