"""A file of cached texts: the rows that a frozen encoder made of each, found by the text itself, each with a checksum."""

import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from mmtrain.data.partial_files import PART
from mmtrain.errors import DataError

Rows = npt.NDArray[np.floating]

_HEADER_BYTES = 1024
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class CachedText(NamedTuple):
    """What is kept of one text."""

    text: str
    rows: Rows  # [T, H]
    is_cut: bool  # whether the tokenizer left some of it out


def text_keys(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """[n]: 64 bits of each text's hash. Two texts that share them have different checksums."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, "<u8")


def checksum(text: str, rows: Rows) -> int:
    """Of a text and its rows as they lie in the file."""
    return zlib.crc32(np.ascontiguousarray(rows).data, zlib.crc32(text.encode()))


def write_block(file: Path, entries: Iterable[CachedText], *, width: int, dtype: np.dtype[Any]) -> None:
    """Write the entries as they come, memory flat, and give the file its name when it is whole and on the disk.

    `width`: H; `dtype`: float32 or float64. Whoever writes the same file at the same time does so in a file of its own; the
    last one stays. Errors: DataError where the disk refuses it.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=PART, prefix=".", dir=file.parent)
        try:
            with open(descriptor, "wb") as handle:
                _write(handle, entries, width, dtype.newbyteorder("<"))
                handle.flush()
                os.fsync(handle.fileno())
            _publish(Path(name), file)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{file} cannot be written ({error.strerror}); make room, or name another folder under `cache`"
        ) from None


def _publish(part: Path, file: Path) -> None:
    try:
        part.chmod(0o644)
        part.rename(file)
    except FileNotFoundError:
        if not file.is_file():  # else another has written it too, and cleared up behind all
            raise


def _write(handle: BinaryIO, entries: Iterable[CachedText], width: int, dtype: np.dtype[Any]) -> None:
    """Rows first, what finds them behind, the header last, in the room that was left for it."""
    texts, offsets, checksums, cut = [], [0], [], []
    handle.write(b" " * _HEADER_BYTES)
    for text, rows, is_cut in entries:
        stored = np.ascontiguousarray(rows, dtype)
        handle.write(stored.data)
        texts.append(text)
        offsets.append(offsets[-1] + len(stored))
        checksums.append(checksum(text, stored))
        cut.append(is_cut)
    size = offsets[-1] * width * dtype.itemsize
    arrays: list[tuple[str, str, list[int], bytes]] = [
        ("padding", "U8", [-size % 8], b"\0" * (-size % 8)),  # the next array stays aligned
        ("keys", "U64", [len(texts)], text_keys(texts).tobytes()),
        ("offsets", "I64", [len(offsets)], np.array(offsets, "<i8").tobytes()),
        ("checksums", "U32", [len(texts)], np.array(checksums, "<u4").tobytes()),
        ("cut", "BOOL", [len(texts)], np.array(cut, bool).tobytes()),
    ]
    entry: dict[str, Any] = {"dtype": _NAMES[dtype], "shape": [offsets[-1], width], "data_offsets": [0, size]}
    header = {"rows": entry}
    for name, kind, shape, data in arrays:
        handle.write(data)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [size, size + len(data)]}
        size += len(data)
    handle.seek(0)
    handle.write((_HEADER_BYTES - 8).to_bytes(8, "little") + json.dumps(header).encode().ljust(_HEADER_BYTES - 8))


@dataclass(frozen=True)
class CachedBlock:
    """A file of n texts, its rows memory-mapped."""

    file: Path
    keys: npt.NDArray[np.uint64]  # [n]
    offsets: npt.NDArray[np.int64]  # [n + 1]: rows offsets[i]:offsets[i + 1] are those of text i
    checksums: npt.NDArray[np.uint32]  # [n]
    cut: npt.NDArray[np.bool_]  # [n]
    rows: Rows  # [R, H]

    def rows_of(self, number: int) -> Rows:
        """[T, H]: a view of the file."""
        return self.rows[self.offsets[number] : self.offsets[number + 1]]

    def is_of(self, number: int, text: str) -> bool:
        """Whether what lies at this place was made of this text, and is undamaged. Reads the rows."""
        return checksum(text, self.rows_of(number)) == int(self.checksums[number])

    def holds(self, texts: Sequence[str]) -> bool:
        """Whether it is whole, undamaged and of exactly these texts, in any order. Reads all rows."""
        places = {int(key): number for number, key in enumerate(self.keys)}
        found = [places.get(int(key)) for key in text_keys(texts)]
        pairs = zip(found, texts, strict=True)
        return len(texts) == len(self.keys) and all(place is not None and self.is_of(place, text) for place, text in pairs)


def open_block(file: Path) -> CachedBlock:
    """Map a file; its rows are not read. Errors: DataError where it is missing or not such a file (truncated, say)."""
    try:
        with safe_open(file, "np") as arrays:  # which sees to it that the header fits the file
            keys, offsets, checksums, cut = (arrays.get_tensor(name) for name in ("keys", "offsets", "checksums", "cut"))
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
            entry, start = header["rows"], handle.tell() + header["rows"]["data_offsets"][0]
        dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
        rows = np.memmap(file, dtype, "r", start, shape) if shape[0] else np.empty(shape, dtype)
    except FileNotFoundError:
        raise DataError(f"{file} is missing") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    except (SafetensorError, LookupError, ValueError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error})") from None
    block = CachedBlock(file, keys, offsets, checksums, cut, rows)
    if not len(keys) == len(checksums) == len(cut) == len(offsets) - 1 or len(rows) != offsets[-1] or rows.ndim != 2:
        raise DataError(f"{file} is damaged (its arrays are of different lengths)")
    return block
