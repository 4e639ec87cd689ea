"""Writing a feature store, sample by sample, with flat memory; it becomes visible only when whole."""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmtrain.data.feature_files import FeatureFiles
from mmtrain.data.sample_row import Label, sample_row
from mmtrain.data.schema import OWN_COLUMNS, FeatureSpec, FileRecord, ModalitySchema, StoreSchema, TaskSchema
from mmtrain.errors import DataError

_BATCH = 4096
_TASK_TYPES = {
    "binary": pa.int8(),
    "multiclass": pa.int32(),
    "multilabel": pa.list_(pa.int8()),
    "regression": pa.float64(),
}


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
        check_target(self.path, overwrite=overwrite)
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
        self._features = {key: FeatureFiles(self._folder, key, spec, shard_bytes) for key, spec in self.modalities.items()}
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
        text: str | None = "",
        features: Mapping[str, npt.NDArray[np.number]] | None = None,
        labels: Mapping[str, Label] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one sample. A modality left out, or with 0 rows, is missing; a label left out or None is missing.

        `features`: rows [T, D] of a modality, or pixels [T, 3, H, W] uint8.
        """
        features = {name: np.asarray(rows) for name, rows in (features or {}).items() if rows is not None}
        labels = labels or {}
        if id in self._ids:
            raise DataError(f"store '{self.name}': sample id '{id}' comes twice")
        unknown = (set(features) - set(self.modalities)) | (set(labels) - set(self.tasks))
        if unknown:
            known = ", ".join([*self.modalities, *self.tasks]) or "none"
            raise DataError(
                f"store '{self.name}', sample '{id}': unknown modality or task {', '.join(sorted(unknown))}; it has {known}"
            )
        for key, files in self._features.items():
            files.check(id, features.get(key))
        own = sample_row(self.name, id=id, split=split, group=group, text=text, labels=labels, tasks=self.tasks)
        row = own | dict(columns or {})
        for key, files in self._features.items():
            files.add(features.get(key))
        self._ids.add(id)
        self._pending.append(row)
        if len(self._pending) >= _BATCH:
            self._flush()

    def close(self) -> None:
        """Finish all files, hash them, write dataset.json and make the store visible under its name.

        Errors: DataError where no sample was added.
        """
        if not self._ids:
            raise DataError(f"store '{self.name}': no sample was added, so there is nothing to write")
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
        publish(self._folder, self.path, schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.close()
        except BaseException:
            self._abandon()
            raise
        if kind is not None:
            self._abandon()

    def _abandon(self) -> None:
        """Remove the partial store, also where a full disk does not take what was still to be written."""
        for part in (self._table.close, *(files.abandon for files in self._features.values())):
            with suppress(OSError, ValueError):
                part()
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


def check_target(path: Path, *, overwrite: bool) -> None:
    """Errors: DataError where there is something that a new store may not replace."""
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists already; choose another folder or pass --overwrite")
    if path.exists() and not (path / "dataset.json").is_file():
        raise DataError(f"{path} exists and is not a feature store, so it is not overwritten; choose another folder")


def publish(folder: Path, path: Path, schema: StoreSchema) -> None:
    """Complete a folder of data files by its dataset.json, and make it visible as `path`, in the place of what was there."""
    with (folder / "dataset.json").open("w", encoding="utf-8") as handle:
        handle.write(schema.model_dump_json(indent=2) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    replaced = path.with_name(path.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if path.exists():
        path.rename(replaced)
    folder.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


def _record(file: Path) -> FileRecord:
    with file.open("rb") as handle:
        return FileRecord(bytes=file.stat().st_size, sha256=hashlib.file_digest(handle, "sha256").hexdigest())
