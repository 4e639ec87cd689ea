"""An append-only file of JSON lines whose length is part of a checkpoint, so that a resumed log has no line twice."""

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from mmtrain.engine.run_lock import NO_LOCKS
from mmtrain.errors import CheckpointError

_PIECE = 4096  # bytes read at once, from the end


class JsonLines:
    """One record a line, keys in the order given; NaN and Inf become null, so that any JSON reader accepts a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def mend(self) -> Self:
        """Forget a last line that a kill has cut off: the next record would join it. Nobody else may be writing the file."""
        if (end := _end_of_lines(self.path)) < self.path.stat().st_size:
            self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)
        return self

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a whole line or nothing. Errors: OSError with the file where the disk refuses it."""
        line = json.dumps(plain(record), allow_nan=False, ensure_ascii=False).encode() + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            self._file.truncate(start)
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def position(self) -> int:
        """Bytes written so far, safely on disk. Errors: OSError with the file where they cannot be."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        return self._file.tell()

    def rewind(self, position: int) -> None:
        """Forget what was written after `position`. Errors: CheckpointError where the file is shorter than that."""
        size = self.path.stat().st_size
        if size < position:
            raise CheckpointError(f"{self.path} has {size} bytes, the checkpoint was made at {position}: lines are lost")
        self._file.truncate(position)
        self._file.seek(position)

    def close(self) -> None:
        self._file.close()


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record to a file to which other processes may be adding theirs, safely on disk before it returns.

    Errors: OSError with the file where the disk refuses it.
    """
    with path.open("ab") as lock, closing(JsonLines(path)) as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            log.mend()
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        log.write(record)
        log.position()


def _end_of_lines(path: Path) -> int:
    """Where the last whole line ends."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(end - _PIECE, 0)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file; a last line cut off by a kill is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def plain(value: Any) -> Any:
    """Nested values as JSON takes them: NaN and Inf as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
