"""A sample table decoded once into an Arrow file, which all processes of a machine map in place of holding one each."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmtrain.data.partial_files import PART, remove_strays
from mmtrain.errors import DataError

FOLDER = "tables"  # under the cache
_KEY = b"sha256 of samples.parquet"  # in the file's metadata
_ROWS = 1 << 18  # of a record batch: what writing holds at a time


def mapped_file(cache: Path, sha256: str) -> Path:
    """Where the mapped copy of a samples.parquet with this hash is looked for."""
    return cache / FOLDER / f"{sha256}.arrow"


def write_mapped(store: Path, *, cache: Path, sha256: str) -> Path:
    """Decode the samples.parquet of a store piece by piece; the file gets its name when it is whole and on the disk.

    `sha256`: what dataset.json says of it; a sound file of that is left as it is. Errors: DataError where the table is
    another, or cannot be read or written.
    """
    source, file = store / "samples.parquet", mapped_file(cache, sha256)
    with suppress(DataError):  # a damaged one is made anew
        if open_mapped(store, cache=cache, sha256=sha256) is not None:
            return file
    try:
        with source.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != sha256:
            raise DataError(f"{source} is not what dataset.json describes; `mmtrain data check {store}` says more")
        file.parent.mkdir(parents=True, exist_ok=True)
        remove_strays(file.parent, prefix=f".{sha256}.")
        part = file.with_name(f".{sha256}.{os.getpid()}{PART}")
        try:
            with part.open("wb") as handle:
                _decode(source, handle, sha256)
                handle.flush()
                os.fsync(handle.fileno())
            part.rename(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except FileNotFoundError:
        raise DataError(f"{source} is missing") from None
    except pa.ArrowException as error:
        raise DataError(f"{source}: not a readable parquet file ({error})") from None
    except OSError as error:
        raise DataError(f"{source} cannot be decoded into {file}: {error.strerror or error}") from None
    return file


def _decode(source: Path, sink: BinaryIO, sha256: str) -> None:
    with pq.ParquetFile(source, memory_map=True) as table:
        schema = table.schema_arrow.with_metadata({_KEY: sha256})
        with pa.ipc.new_file(sink, schema) as writer:
            for batch in table.iter_batches(_ROWS):
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def open_mapped(store: Path, *, cache: Path, sha256: str) -> pa.Table | None:
    """The table of a store, of which offsets alone are read; None where there is no file of it.

    Errors: DataError for a file that is damaged, of another table, or not to be read.
    """
    file = mapped_file(cache, sha256)
    remedy = f"`mmtrain data map {store} --cache {cache}` makes it anew"
    try:
        with pa.ipc.open_file(pa.memory_map(str(file))) as reader:
            table = reader.read_all()
        table.validate()
        if not all(_ascend(piece) for column in table.columns for piece in column.chunks):
            raise pa.ArrowInvalid("offsets lead out of it")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise DataError(f"{file} cannot be read (no permission); give the experiment a `cache` of your own") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is damaged ({error}); {remedy}") from None
    if (table.schema.metadata or {}).get(_KEY) != sha256.encode():
        raise DataError(f"{file} is of another samples.parquet; {remedy}")
    return table


def _ascend(piece: pa.Array) -> bool:
    """Whether no string or list of it begins before the last one ended: `validate` looks at the first and last alone."""
    kind = piece.type
    if not len(piece) or not (pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_list(kind)):
        return True
    offsets = np.frombuffer(piece.buffers()[1], np.int32)[piece.offset : piece.offset + len(piece) + 1]
    return bool((offsets[1:] >= offsets[:-1]).all())
