"""One sample's row of samples.parquet, checked before it is written."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from mmtrain.data.labels import describe_labels
from mmtrain.data.schema import SPLITS, TaskSchema
from mmtrain.errors import DataError

Label = int | float | Sequence[int] | None


def sample_row(
    store: str,
    *,
    id: str,  # noqa: A002 - the column's name
    split: str,
    group: str,
    text: str | None,
    labels: Mapping[str, Label],
    tasks: Mapping[str, TaskSchema],
) -> dict[str, Any]:
    """The store's own columns and the labels. Errors: DataError naming the sample, what was found and what was expected."""
    where = f"store '{store}', sample '{id}'"
    for column, value in (("id", id), ("group", group), ("text", "" if text is None else text)):
        if not isinstance(value, str):
            raise DataError(f"{where}: {column} is {value!r}, a text was expected")
    if not id:
        raise DataError(f"{where}: the id is empty; each sample has one of its own")
    if split not in SPLITS:
        raise DataError(f"{where}: split is {split!r}; write one of {', '.join(SPLITS)}")
    written = text or ""
    row: dict[str, Any] = {"id": id, "split": split, "group": group, "text": written, "text_characters": len(written)}
    for name, task in tasks.items():
        label = labels.get(name)
        if label is not None and not _fits(task, label):
            raise DataError(f"{where}: the label of '{name}' is {label!r}, {describe_labels(task)} was expected")
        row[name] = label if label is None else _plain(task, label)
    return row


def _fits(task: TaskSchema, label: Any) -> bool:
    if task.kind == "multilabel":
        parts = list(label) if not isinstance(label, str | bytes) and hasattr(label, "__iter__") else []
        return len(parts) == task.num_outputs and all(_is_class(part, 2) for part in parts)
    if task.kind == "regression":
        return isinstance(label, Real) and math.isfinite(label)
    return _is_class(label, max(task.num_outputs, 2))


def _is_class(value: Any, count: int) -> bool:
    return isinstance(value, Real | np.bool_) and value in range(count)


def _plain(task: TaskSchema, label: Any) -> Any:
    """Also of numpy's numbers and of booleans."""
    if task.kind == "multilabel":
        return [int(part) for part in label]
    return float(label) if task.kind == "regression" else int(label)
