"""Columns of a table as numpy arrays, without what pyarrow's own ways to them import: pandas, a third of a second."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def numbers(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """A column [N] of numbers or booleans, 0 where there is none."""
    return _read(column, pa.float64(), np.dtype(np.float64))


def integers(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A column [N] of whole numbers, 0 where there is none."""
    return _read(column, pa.int64(), np.dtype(np.int64))


def flags(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """A column [N] of booleans, False where there is none."""
    return _read(column, pa.uint8(), np.dtype(bool))


def equals(column: pa.ChunkedArray, value: str) -> npt.NDArray[np.bool_]:
    """Where a column [N] of strings has this one."""
    numbered, strings = codes(column)
    words = strings.to_pylist()
    if value not in words:
        return np.zeros(len(column), bool)
    is_value: npt.NDArray[np.bool_] = numbered == words.index(value)
    return is_value


def pieces(column: pa.ChunkedArray) -> list[pa.Array]:
    """A column as it lies in memory or in its file, one piece behind the other; an empty one of a column without a sample.

    Columns of strings are read like this: joined, their bytes may be too many for one array.
    """
    return column.chunks or [pa.array([], column.type)]


def codes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """A column [N] of strings as numbers from 0, in the order in which they come, and the string of each number, or null."""
    chunks = pieces(column.dictionary_encode(null_encoding="encode"))  # of one dictionary
    return np.concatenate([integers(chunk.indices) for chunk in chunks]), chunks[0].dictionary


def _read(column: pa.Array | pa.ChunkedArray, held_as: pa.DataType, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    held = whole.cast(held_as, safe=False)
    if not len(held):
        return np.empty(0, dtype)
    values = np.frombuffer(held.buffers()[1], dtype, count=len(held), offset=held.offset * dtype.itemsize)
    return np.where(flags(held.is_valid()), values, dtype.type()) if held.null_count else values
