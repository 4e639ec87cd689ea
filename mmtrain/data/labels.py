"""Label columns to numbers: which samples carry a label, and which labels are not what their task allows."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmtrain.data.columns import flags, integers, numbers
from mmtrain.data.schema import TaskSchema

Flags = npt.NDArray[np.bool_]


def decode_labels(task: TaskSchema, column: pa.Array) -> tuple[npt.NDArray[np.float64], Flags, Flags]:
    """Labels as float64, [N] or [N, C] (0 where there is none), where there is one, and where one is wrong, bool [N].

    Errors: TypeError where the column's type cannot hold such labels.
    """
    labelled = flags(column.is_valid())
    if task.kind == "multilabel":
        values, fits = _lists(task, column)
    else:
        values = _numbers(column)
        fits = _in_range(task, values)
    return values, labelled, labelled & ~fits


def describe_labels(task: TaskSchema) -> str:
    """What a label of the task has to be, for messages."""
    if task.kind == "regression":
        return "a finite number"
    if task.kind == "multiclass":
        return f"a class 0 .. {task.num_outputs - 1} (multiclass)"
    if task.kind == "multilabel":
        return f"a list of {task.num_outputs} numbers, each 0 or 1 (multilabel)"
    return "0 or 1 (binary)"


def _numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    """A numeric column as float64; only numbers and booleans are labels, digits in strings are not."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise TypeError(f"holds {column.type}, a number was expected")
    return numbers(column)


def _lists(task: TaskSchema, column: pa.Array) -> tuple[npt.NDArray[np.float64], Flags]:
    """A list column as [N, C], and which lists are whole and in range; the others read as zeros."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise TypeError(f"holds {column.type}, lists of numbers were expected")
    width = len(task.classes)
    values = np.zeros((len(column), width))
    whole = flags(column.is_valid()) & (integers(pc.list_value_length(column)) == width)
    flat = pc.list_flatten(column.filter(pa.array(whole)))
    values[whole] = _numbers(flat).reshape(-1, width)
    complete = whole.copy()
    complete[whole] = flags(flat.is_valid()).reshape(-1, width).all(axis=1)
    return values, complete & _in_range(task, values)


def _in_range(task: TaskSchema, values: npt.NDArray[np.float64]) -> Flags:
    if task.kind == "regression":
        return np.isfinite(values)
    top = task.num_outputs - 1 if task.kind == "multiclass" else 1
    fits = (values >= 0) & (values <= top) & (values == np.floor(values))
    return np.asarray(fits.all(axis=1)) if task.kind == "multilabel" else fits
