"""The rows that an extraction has made so far, one file each beside the store to be, so that a killed one goes on."""

import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from data_prep.media.span import Span
from data_prep.plain import is_plain
from mmtrain.errors import DataError

Rows = npt.NDArray[np.number]


class Finished:
    """Rows by what they depend on: the media file with its size and time, the span, and all that makes the extractor.

    A file that changes, another extractor or other options make another name, so that only what is the same is found.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, file: Path, span: Span, identity: Mapping[str, Any]) -> Path:
        """Where rows lie, or will. Errors: DataError where the media file is not there."""
        parts = [str(file), _stat(file), str(span.start), str(span.end), identity]
        name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def load(self, place: Path) -> Rows | None:
        """None where there are no rows, or none that can be read."""
        try:
            rows: Rows = safetensors.numpy.load_file(place)["rows"]
            return rows
        except Exception:  # cut by a power failure, or not there: to be extracted again
            return None

    def save(self, place: Path, rows: Rows) -> None:
        """Whole or not at all. Errors: DataError where the disk does not take it."""
        partial = place.with_suffix(f".{threading.get_ident()}.partial")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as handle:
                handle.write(safetensors.numpy.save({"rows": np.ascontiguousarray(rows)}))
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(place)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise full_disk(self.folder, error) from None


@contextmanager
def finished_rows(out: Path) -> Iterator[Finished]:
    """Those of the extraction into `out`, in `<out>.extracting`; removed at the end of a block that ends well.

    Errors: DataError where another process extracts into `out`.
    """
    folder = out.with_name(out.name + ".extracting")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise full_disk(folder, error) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"another process extracts into {out} now; wait for it, or choose another folder") from None
        yield Finished(folder)
        shutil.rmtree(folder, ignore_errors=True)


def full_disk(path: Path, error: OSError) -> DataError:
    """What is said where a disk takes no more."""
    return DataError(
        f"{path} cannot be written ({error.strerror or error}). What is extracted is kept: make room, and give the same "
        "command again"
    )


def _stat(file: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the file, or of all files of a folder."""
    try:
        files = sorted(file.iterdir()) if file.is_dir() else [file]
        found = [(path.name, path.stat()) for path in files]
    except OSError as error:
        raise DataError(f"not a readable file ({error.strerror})") from None
    for name, status in found:
        if not is_plain(status):
            raise DataError(f"not a readable file ('{name}' is no plain file)")
    return [(name, status.st_size, status.st_mtime_ns) for name, status in found]
