"""Tables in JSON and Parquet as the lines of a JSONL manifest."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmtrain.errors import DataError

FOREIGN_TABLES = (".json", ".parquet")


def read_as_lines(file: Path) -> str:
    """A list of objects, an object of objects by id, or a Parquet table, one JSON object a line; line n is row n.

    Errors: DataError where the file cannot be read or holds no rows.
    """
    rows = _parquet(file) if file.suffix == ".parquet" else _json(file)
    try:
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    except TypeError as error:
        raise DataError(f"{file}: a cell is neither text nor number nor a list of them ({error})") from None


def _json(file: Path) -> Iterator[Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON ({error})") from None
    if isinstance(content, dict):
        content = [{"id": key, **row} if isinstance(row, dict) else row for key, row in content.items()]
    if not isinstance(content, list):
        raise DataError(f"{file} is neither a list of objects nor an object of objects by id")
    yield from content


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches():
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not a readable Parquet file ({error})") from None
