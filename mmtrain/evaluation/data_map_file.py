"""A data map on disk: one parquet file, one row per training sample and task."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmtrain.errors import DataError
from mmtrain.evaluation.data_map import TaskMap

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("stream", pa.string()),
        ("task", pa.string()),
        ("confidence", pa.float64()),
        ("variability", pa.float64()),
        ("correctness", pa.float64()),
        ("forgetting_events", pa.int64()),
        ("first_learned", pa.int64()),  # null: never
        ("epochs", pa.int64()),
    ]
)


def write_data_map(path: Path, maps: Sequence[TaskMap]) -> None:
    """The file appears whole or not at all. Errors: OSError with the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        pq.write_table(pa.concat_tables([_SCHEMA.empty_table(), *map(_rows, maps)]), partial, compression="zstd")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def _rows(item: TaskMap) -> pa.Table:
    count = len(item.ids)
    columns = [
        pa.array(item.ids.astype(object), pa.string()),
        pa.array(item.streams.astype(object), pa.string()),
        pa.array(np.full(count, item.task).astype(object), pa.string()),
        pa.array(item.confidence),
        pa.array(item.variability),
        pa.array(item.correctness),
        pa.array(item.forgetting_events),
        pa.array(item.first_learned, mask=item.first_learned == 0),
        pa.array(np.full(count, len(item.epochs))),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def read_data_map(path: Path) -> pa.Table:
    """Errors: DataError where the file is missing or another one."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such data map; `mmtrain datamap RUN` writes RUN/evaluation/data_map.parquet") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a data map ({error})") from None
    if table.schema.remove_metadata() != _SCHEMA:
        raise DataError(
            f"{path}: not a data map (columns {', '.join(table.column_names)}); `mmtrain datamap RUN` writes one"
        )
    return table
