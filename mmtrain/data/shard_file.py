"""One safetensors file of a modality: its header checked, its rows mapped, or read by position."""

import json
import math
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import ModalitySchema, Shard
from mmtrain.errors import DataError

_DTYPES: dict[str, tuple[str, np.dtype[Any]]] = {  # of the schema -> of the header, of the array
    "float32": ("F32", np.dtype("<f4")),
    "float16": ("F16", np.dtype("<f2")),
    "uint8": ("U8", np.dtype("u1")),
    "int64": ("I64", np.dtype("<i8")),
}
_MAX_HEADER = 1 << 20
_CAN_ANNOUNCE = hasattr(os, "posix_fadvise")  # macOS has none
_NO_WAIT = getattr(os, "RWF_NOWAIT", None)  # Linux has it

Piece = tuple[int, memoryview]  # a position in a file, in bytes, and the bytes that what stands there is read into


@dataclass(frozen=True)
class _Place:
    """Where an array lies in its file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file

    def map(self, file: Path) -> npt.NDArray[Any]:
        if not math.prod(self.shape):
            return np.empty(self.shape, self.dtype)
        return np.memmap(file, self.dtype, "r", self.start, self.shape)


def map_shard(file: Path, schema: ModalitySchema, shard: Shard) -> tuple[npt.NDArray[np.number], npt.NDArray[np.int64]]:
    """Map one safetensors file: values [R, D] (of pixels [R, 3, H, W]) and offsets [N + 1], without reading a row.

    Errors: DataError where the header is not what dataset.json says (a hostile header cannot make this allocate or
    read outside the file).
    """
    values, offsets = _find_arrays(file, schema, shard)
    return values.map(file), offsets.map(file)


def _find_arrays(file: Path, schema: ModalitySchema, shard: Shard) -> tuple[_Place, _Place]:
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise DataError(f"{file}: not a safetensors file (header of {length} bytes in a file of {size})")
            header = json.loads(handle.read(length))
        values = _find_array(file, header["values"], schema.dtype, shape=(shard.rows, *schema.row_shape), start=8 + length)
        offsets = _find_array(file, header["offsets"], "int64", shape=(shard.samples + 1,), start=8 + length)
        return values, offsets
    except FileNotFoundError:
        raise DataError(f"{file} is missing, though dataset.json names it") from None
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{file}: not a feature file ({type(error).__name__}: {error})") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None


def _find_array(file: Path, entry: Any, dtype: str, *, shape: tuple[int, ...], start: int) -> _Place:
    name, kind = _DTYPES[dtype]
    begin, end = (int(offset) for offset in entry["data_offsets"])
    if tuple(entry["shape"]) != shape or entry["dtype"] != name:
        found = f"{entry['dtype']} {tuple(entry['shape'])}"
        raise DataError(f"{file}: an array is {found}, dataset.json says {name} {shape}")
    if end - begin != math.prod(shape) * kind.itemsize or begin < 0 or start + end > file.stat().st_size:
        raise DataError(f"{file}: the rows do not fit the file (truncated?)")
    return _Place(kind, shape, start + begin)


class ShardFile:
    """An open file whose rows are read by position: they are never mapped, so memory stays flat.

    A read that the disk has to serve is one request for all rows of a sample, where a mapping asks for page after page.
    """

    def __init__(self, file: Path, schema: ModalitySchema, shard: Shard) -> None:
        values, offsets = _find_arrays(file, schema, shard)
        self.file, self.rows = file, shard.rows
        self.offsets: npt.NDArray[np.int64] = np.asarray(offsets.map(file))  # [N + 1]
        self._start, self._row_bytes = values.start, math.prod(values.shape[1:]) * values.dtype.itemsize
        try:
            self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror})") from None
        weakref.finalize(self, os.close, self._descriptor)

    def pieces(self, begins: npt.NDArray[np.int64], targets: Sequence[memoryview]) -> list[Piece]:
        """What fills the bytes of each target: the rows from a beginning on."""
        return list(zip((self._start + begins * self._row_bytes).tolist(), targets, strict=True))

    def read_cached(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        """Read the pieces that the system holds in memory. Those that are left are for `read`.

        So a warm read does without announcing, which costs as many calls of the system as reading.
        """
        if _NO_WAIT is None:
            return pieces
        left: list[Piece] = []
        preadv, descriptor = os.preadv, self._descriptor
        for number, (position, target) in enumerate(pieces):
            try:
                if preadv(descriptor, (target,), position, _NO_WAIT) != len(target):
                    left.append((position, target))
            except BlockingIOError:
                left.append((position, target))
            except OSError:  # a file system that cannot tell; an error of the disk comes again in `read`
                return [*left, *pieces[number:]]
        return left

    def announce(self, pieces: Sequence[Piece]) -> None:
        """Let the disk begin with what `read` is to read soon, so that it works on all that is announced at a time."""
        if not _CAN_ANNOUNCE:
            return
        for position, target in pieces:
            if len(target):  # a length of 0 would mean up to the end of the file
                os.posix_fadvise(self._descriptor, position, len(target), os.POSIX_FADV_WILLNEED)

    def read(self, pieces: Sequence[Piece]) -> None:
        """Errors: DataError where the file has become shorter, or cannot be read."""
        try:
            for position, target in pieces:
                self._read_whole(position, target)
        except OSError as error:
            raise DataError(f"{self.file} cannot be read ({error.strerror})") from None

    def _read_whole(self, position: int, target: memoryview) -> None:
        """The system gives at most 2 GiB at a time."""
        while len(target):
            count = os.preadv(self._descriptor, [target], position)
            if not count:
                raise DataError(f"{self.file} ends at byte {position}: it was cut while it was open")
            target, position = target[count:], position + count
