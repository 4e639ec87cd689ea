"""A sample table decoded once into an Arrow file, which all processes of a machine map in place of holding one each."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from mmtrain.errors import DataError

FOLDER = "tables"  # under the cache
_ROWS = 1 << 18  # of a record batch: what writing holds at a time


def mapped_file(cache: Path, sha256: str) -> Path:
    """Where the mapped copy of a samples.parquet with this hash is looked for."""
    return cache / FOLDER / f"{sha256}.arrow"


def write_mapped(store: Path, *, cache: Path, sha256: str) -> Path:
    """Decode the samples.parquet of a store piece by piece; the file gets its name when it is whole and on the disk.

    `sha256`: what dataset.json says of it. Errors: DataError where the table is another, or cannot be read or written.
    """
    source, file = store / "samples.parquet", mapped_file(cache, sha256)
    try:
        with source.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != sha256:
            raise DataError(f"{source} is not what dataset.json describes; `mmtrain data check {store}` says more")
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=file.parent)
        try:
            with open(descriptor, "wb") as handle:
                _decode(source, handle)
                handle.flush()
                os.fsync(handle.fileno())
            Path(name).chmod(0o644)  # other users' runs may share it
            Path(name).rename(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except FileNotFoundError:
        raise DataError(f"{source} is missing") from None
    except pa.ArrowException as error:
        raise DataError(f"{source}: not a readable parquet file ({error})") from None
    except OSError as error:
        raise DataError(f"{source} cannot be decoded into {file}: {error.strerror or error}") from None
    return file


def _decode(source: Path, sink: BinaryIO) -> None:
    with pq.ParquetFile(source, memory_map=True) as table, pa.ipc.new_file(sink, table.schema_arrow) as writer:
        for batch in table.iter_batches(_ROWS):
            writer.write_batch(batch)


def open_mapped(file: Path) -> pa.Table | None:
    """The table, of which nothing is read yet; None where the file is not there. Errors: DataError for a damaged one."""
    try:
        with pa.ipc.open_file(pa.memory_map(str(file))) as reader:
            table = reader.read_all()
        table.validate()
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is damaged ({error}); delete it, and `mmtrain data map STORE` makes it anew") from None
    return table
