"""The safetensors files of one modality while a store is written: rows checked, appended, cut into shards."""

import json
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import FeatureSpec, Shard
from mmtrain.errors import DataError

_HEADER_BYTES = 512
_DTYPE_NAMES = {"float32": "F32", "float16": "F16", "uint8": "U8"}


class FeatureFiles:
    """The growing safetensors files of one modality: values first, offsets behind them, the header filled in last."""

    def __init__(self, folder: Path, modality: str, spec: FeatureSpec, shard_bytes: int) -> None:
        self._folder, self._modality, self._spec, self._limit = folder, modality, spec, shard_bytes
        self._dtype = np.dtype(spec.dtype).newbyteorder("<")
        self._shards: list[Shard] = []
        self._first = 0
        self._file: BinaryIO
        self._open()

    def _open(self) -> None:
        self._offsets = [0]
        self._file = (self._folder / f"{self._modality}-{len(self._shards):05d}.part").open("wb")
        self._file.write(b" " * _HEADER_BYTES)

    def check(self, sample: str, rows: npt.NDArray[np.number] | None) -> None:
        """Errors: DataError naming the sample, where its rows are not what the store says."""
        if rows is None:
            return
        if rows.shape[1:] != self._spec.row_shape:
            expected = ", ".join(map(str, self._spec.row_shape))
            raise DataError(
                f"sample '{sample}': {self._modality} rows have shape {rows.shape}, the store says [T, {expected}] "
                f"(extractor {self._spec.extractor})"
            )
        if self._spec.dtype == "uint8":
            if rows.dtype != np.uint8:
                raise DataError(
                    f"sample '{sample}': {self._modality} rows are {rows.dtype}, the store says uint8 pixels of 0 to 255; "
                    "convert them by rows.round().clip(0, 255).astype('uint8')"
                )
        elif not np.isfinite(rows.astype(self._dtype)).all():
            raise DataError(f"sample '{sample}': NaN or Inf in {self._modality} (stored as {self._spec.dtype})")

    def add(self, rows: npt.NDArray[np.number] | None) -> None:
        """Append the next sample's rows; None: it has none."""
        count = 0 if rows is None else len(rows)
        size = count * self._spec.dim * self._dtype.itemsize
        if len(self._offsets) > 1 and self._offsets[-1] * self._spec.dim * self._dtype.itemsize + size > self._limit:
            self._finish()
            self._open()
        if rows is not None and count:
            self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())
        self._offsets.append(self._offsets[-1] + count)

    def _finish(self) -> None:
        rows, samples = self._offsets[-1], len(self._offsets) - 1
        size = rows * self._spec.dim * self._dtype.itemsize
        padding = -size % 8  # offsets stay aligned, so that any reader may view them in place
        offsets = np.array(self._offsets, dtype="<i8").tobytes()
        entries = {"values": (_DTYPE_NAMES[self._spec.dtype], [rows, *self._spec.row_shape], 0, size)}
        if padding:
            entries["padding"] = ("U8", [padding], size, size + padding)
        entries["offsets"] = ("I64", [samples + 1], size + padding, size + padding + len(offsets))
        header = json.dumps(
            {key: {"dtype": kind, "shape": shape, "data_offsets": [a, b]} for key, (kind, shape, a, b) in entries.items()}
        ).encode()
        self._file.write(b"\0" * padding + offsets)
        self._file.seek(0)
        self._file.write((_HEADER_BYTES - 8).to_bytes(8, "little") + header.ljust(_HEADER_BYTES - 8))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._shards.append(Shard(file=Path(self._file.name).name, first=self._first, samples=samples, rows=rows))
        self._first += samples

    def close(self) -> list[Shard]:
        """Finish the last file and give every file its final name."""
        self._finish()
        named = []
        for number, shard in enumerate(self._shards, start=1):
            many = len(self._shards) > 1
            name = f"{self._modality}-{number:05d}-of-{len(self._shards):05d}" if many else self._modality
            (self._folder / shard.file).rename(self._folder / f"{name}.safetensors")
            named.append(shard.model_copy(update={"file": f"{name}.safetensors"}))
        return named

    def abandon(self) -> None:
        self._file.close()
