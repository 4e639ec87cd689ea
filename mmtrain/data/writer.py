"""Writing a feature store, sample by sample, with flat memory; it becomes visible only when whole."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmtrain.data.schema import OWN_COLUMNS, FeatureSpec, FileRecord, ModalitySchema, Shard, StoreSchema, TaskSchema
from mmtrain.errors import DataError

_HEADER_BYTES = 512
_BATCH = 4096
_TASK_TYPES = {
    "binary": pa.int8(),
    "multiclass": pa.int32(),
    "multilabel": pa.list_(pa.int8()),
    "regression": pa.float64(),
}
_DTYPE_NAMES = {"float32": "F32", "float16": "F16"}

Label = int | float | Sequence[int] | None


class StoreWriter:
    """Collects samples into `<path>.partial` and renames it to `path` on close.

    >>> with StoreWriter("stores/clips", name="clips", modalities={"audio": FeatureSpec(dim=64)},
    ...                  tasks={"funny": TaskSchema(kind="binary")}) as writer:
    ...     writer.add(id="a", split="train", group="film-1", text="hello", features={"audio": rows}, labels={"funny": 1})

    `columns` names further columns of samples.parquet with their Arrow types. Leaving the block by an exception removes
    the partial store. Errors: DataError for a bad sample (its id is named), a name taken twice, or an existing `path`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str,
        modalities: Mapping[str, FeatureSpec] | None = None,
        tasks: Mapping[str, TaskSchema] | None = None,
        columns: Mapping[str, pa.DataType] | None = None,
        licence: str = "",
        provenance: Mapping[str, Any] | None = None,
        shard_bytes: int = 2 << 30,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        if self.path.exists() and not overwrite:
            raise DataError(f"{self.path} exists already; choose another folder or pass --overwrite")
        if self.path.exists() and not (self.path / "dataset.json").is_file():
            raise DataError(
                f"{self.path} exists and is not a feature store, so it is not overwritten; choose another folder"
            )
        self.name, self.licence, self.provenance = name, licence, dict(provenance or {})
        self.modalities, self.tasks = dict(modalities or {}), dict(tasks or {})
        self._arrow = pa.schema(
            [("id", pa.string()), ("split", pa.string()), ("group", pa.string()), ("text", pa.string())]
            + [("text_characters", pa.int32())]
            + [(task, _TASK_TYPES[schema.kind]) for task, schema in self.tasks.items()]
            + list((columns or {}).items())
        )
        self._check_names()
        self._folder = self.path.with_name(self.path.name + ".partial")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._table = pq.ParquetWriter(self._folder / "samples.parquet", self._arrow, compression="zstd")
        self._pending: list[dict[str, Any]] = []
        self._features = {key: _FeatureFiles(self._folder, key, spec, shard_bytes) for key, spec in self.modalities.items()}
        self._ids: set[str] = set()

    def _check_names(self) -> None:
        if len(set(self._arrow.names)) != len(self._arrow.names) or "text" in self.modalities:
            raise DataError(
                f"store '{self.name}': a task or column takes one of the names {', '.join(OWN_COLUMNS)}, or one twice"
            )
        for key in self.modalities:
            if not re.fullmatch(r"\w[\w.-]*", key):
                raise DataError(
                    f"store '{self.name}': '{key}' cannot name a modality; write letters, digits, '_', '-' and '.'"
                )

    def add(
        self,
        *,
        id: str,  # noqa: A002 - the column's name
        split: str,
        group: str,
        text: str = "",
        features: Mapping[str, npt.NDArray[np.floating]] | None = None,
        labels: Mapping[str, Label] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one sample. A modality left out, or with 0 rows, is missing; a label left out or None is missing."""
        features, labels = features or {}, labels or {}
        if id in self._ids:
            raise DataError(f"store '{self.name}': sample id '{id}' comes twice")
        unknown = (set(features) - set(self.modalities)) | (set(labels) - set(self.tasks))
        if unknown:
            raise DataError(f"store '{self.name}', sample '{id}': unknown modality or task {', '.join(sorted(unknown))}")
        for key, files in self._features.items():
            files.check(id, features.get(key))
        row = {"id": id, "split": split, "group": group, "text": text, "text_characters": len(text)}
        row |= {task: labels.get(task) for task in self.tasks} | dict(columns or {})
        for key, files in self._features.items():
            files.add(features.get(key))
        self._ids.add(id)
        self._pending.append(row)
        if len(self._pending) >= _BATCH:
            self._flush()

    def close(self) -> None:
        """Finish all files, hash them, write dataset.json and make the store visible under its name."""
        self._flush()
        self._table.close()
        shards = {key: files.close() for key, files in self._features.items()}
        schema = StoreSchema(
            name=self.name,
            samples=len(self._ids),
            modalities={
                key: ModalitySchema(**spec.model_dump(), shards=tuple(shards[key])) for key, spec in self.modalities.items()
            },
            tasks=self.tasks,
            files={file.name: _record(file) for file in sorted(self._folder.iterdir())},
            licence=self.licence,
            provenance=self.provenance,
        )
        with (self._folder / "dataset.json").open("w", encoding="utf-8") as handle:
            handle.write(schema.model_dump_json(indent=2) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        replaced = self.path.with_name(self.path.name + ".replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if self.path.exists():
            self.path.rename(replaced)
        self._folder.rename(self.path)
        shutil.rmtree(replaced, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
            return
        self._table.close()
        for files in self._features.values():
            files.abandon()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _flush(self) -> None:
        if not self._pending:
            return
        try:
            self._table.write_table(pa.Table.from_pylist(self._pending, schema=self._arrow))
        except (pa.ArrowException, OverflowError, TypeError) as error:
            first, last = self._pending[0]["id"], self._pending[-1]["id"]
            raise DataError(f"store '{self.name}', samples '{first}' to '{last}': {error}") from None
        self._pending = []


class _FeatureFiles:
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

    def check(self, sample: str, rows: npt.NDArray[np.floating] | None) -> None:
        if rows is None:
            return
        if rows.ndim != 2 or rows.shape[1] != self._spec.dim:
            raise DataError(
                f"sample '{sample}': {self._modality} rows have shape {rows.shape}, the store says [T, {self._spec.dim}] "
                f"(extractor {self._spec.extractor})"
            )
        if not np.isfinite(rows.astype(self._dtype)).all():
            raise DataError(f"sample '{sample}': NaN or Inf in {self._modality} (stored as {self._spec.dtype})")

    def add(self, rows: npt.NDArray[np.floating] | None) -> None:
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
        entries = {"values": (_DTYPE_NAMES[self._spec.dtype], [rows, self._spec.dim], 0, size)}
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


def _record(file: Path) -> FileRecord:
    with file.open("rb") as handle:
        return FileRecord(bytes=file.stat().st_size, sha256=hashlib.file_digest(handle, "sha256").hexdigest())
