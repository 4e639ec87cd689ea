"""Reading a feature store: rows by position, columns of samples.parquet, labels checked at the edge."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from mmtrain.data.columns import equals, integers, pieces
from mmtrain.data.labels import decode_labels, describe_labels
from mmtrain.data.mapped_table import open_mapped
from mmtrain.data.normalize import Normalizer
from mmtrain.data.ragged import ModalityFiles, Ragged, Request
from mmtrain.data.schema import TEXT, StoreSchema, TaskSchema
from mmtrain.errors import DataError


def read_schema(path: Path) -> StoreSchema:
    """Parse dataset.json of the store at `path`."""
    file = path / "dataset.json"
    try:
        return StoreSchema.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        if not path.exists():
            raise DataError(f"there is no store {path}; `python -m data_prep` makes stores (`--help`)") from None
        raise DataError(f"{path} is not a feature store: it has no dataset.json") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{file}: {where}: {first['msg']}") from None


class FeatureStore:
    """One dataset on disk. Opening it reads dataset.json and the sample table's footer, no feature bytes.

    `splits`: the split of every sample, [N], instead of the column `split` (a fold of cross-validation). `left_out`: index
    -> what is wrong, of samples that are in no split. `cache`: the folder in which `mmtrain data map` may have left the
    sample table as a file to map; None: it is decoded into memory.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        splits: Sequence[str] | None = None,
        left_out: Mapping[int, str] | None = None,
        cache: Path | None = None,
    ) -> None:
        self.path = Path(path)
        self._splits, self._cache = splits, cache
        self.left_out = dict(sorted((left_out or {}).items()))
        self.schema = read_schema(self.path)
        self._files = {name: ModalityFiles(self.path, modality) for name, modality in self.schema.modalities.items()}
        self._normalizers = {
            name: Normalizer(modality.statistics)
            for name, modality in self.schema.modalities.items()
            if modality.statistics is not None and modality.statistics.normalize
        }

    def __len__(self) -> int:
        return self.schema.samples

    @property
    def name(self) -> str:
        return self.schema.name

    @cached_property
    def table(self) -> pa.Table:
        """samples.parquet: mapped where there is such a file, else in memory."""
        file = self.path / "samples.parquet"
        table = self._mapped if self._mapped is not None else self._decoded(file)
        if table.num_rows != len(self):
            raise DataError(f"{file} has {table.num_rows} samples, dataset.json says {len(self)}")
        if self._splits is not None:
            table = table.set_column(table.column_names.index("split"), "split", pa.array(self._splits, pa.string()))
        return table

    @property
    def is_mapped(self) -> bool:
        """Whether the sample table is a file that is shared with other processes."""
        return self._mapped is not None

    @cached_property
    def _mapped(self) -> pa.Table | None:
        record, file = self.schema.files.get("samples.parquet"), self.path / "samples.parquet"
        if self._cache is None or record is None:
            return None
        table = open_mapped(self.path, cache=self._cache, sha256=record.sha256)
        if table is not None and (not file.is_file() or file.stat().st_size != record.bytes):
            raise DataError(f"{file} is not what dataset.json describes; `mmtrain data check {self.path}` says more")
        return table

    @staticmethod
    def _decoded(file: Path) -> pa.Table:
        try:
            with pq.ParquetFile(file, memory_map=True) as source:  # read_table would import pyarrow.dataset, and that pandas
                return source.read().combine_chunks()
        except FileNotFoundError:
            raise DataError(f"{file} is missing") from None
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file}: not a readable parquet file ({error})") from None

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of samples.parquet."""
        try:
            return self.table[name]
        except KeyError:  # asked for only now: listing the names costs more than a sample's read
            known = ", ".join(self.table.column_names)
            raise DataError(f"store '{self.name}' ({self.path}) has no column '{name}'; it has {known}") from None

    def has_column(self, name: str) -> bool:
        """Whether samples.parquet has it."""
        return name in self.table.column_names

    def sample_id(self, index: int) -> str:
        return str(self.column("id")[index].as_py())

    def group(self, index: int) -> str:
        """The source that the sample shares with others; empty where it has none."""
        return self.column("group")[index].as_py() or ""

    def text(self, index: int, column: str = TEXT) -> str:
        """The sample's text, or that of another column; empty where it has none. Errors: DataError where it is no text."""
        text = self.column(column)[index].as_py() or ""
        if not isinstance(text, str):
            raise DataError(f"store '{self.name}', column '{column}': {text!r} is not a text, but the model reads it as one")
        return text

    @property
    def table_hash(self) -> str:
        """The sha256 of samples.parquet, as dataset.json records it."""
        record = self.schema.files.get("samples.parquet")
        if record is None:
            raise DataError(f"{self.path / 'dataset.json'}: files: there is no entry of samples.parquet")
        return record.sha256

    @property
    def text_lengths(self) -> npt.NDArray[np.int64]:
        """Characters of each sample's text, [N]."""
        return integers(self.column("text_characters"))

    def characters(self, column: str) -> npt.NDArray[np.int64]:
        """Characters of each sample's text in a column, [N]; 0 where it has none."""
        if column == TEXT:
            return self.text_lengths
        return integers(pc.utf8_length(self.column(column).cast(pa.string())))

    def split(self, name: str) -> npt.NDArray[np.int64]:
        """Indices of the samples of a split, ascending, without those that are left out."""
        found: npt.NDArray[np.int64] = np.flatnonzero(equals(self.column("split"), name))
        return found[~np.isin(found, list(self.left_out))] if self.left_out else found

    def lengths(self, modality: str) -> npt.NDArray[np.int64]:
        """Rows of each sample, [N]; 0 = the modality is missing."""
        return self._files[modality].lengths() if self.schema.modalities[modality].shards else np.zeros(len(self), np.int64)

    def lengths_of(self, modality: str, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The same of some samples alone, [n], whatever the size of the store."""
        if not self.schema.modalities[modality].shards:
            return np.zeros(len(indices), np.int64)
        return self._files[modality].lengths_of(indices)

    def rows(self, modality: str, index: int) -> npt.NDArray[np.number]:
        """The sample's rows [T, D] (of pixels [T, 3, H, W] uint8), T = 0 where it has none.

        Normalized, float32, where dataset.json says so; else as they lie on disk, read-only.
        """
        rows = self.stored_rows(modality, index)
        normalizer = self._normalizers.get(modality)
        return rows if normalizer is None else normalizer(rows)

    def stored_rows(self, modality: str, index: int) -> npt.NDArray[np.number]:
        """The same as they lie on disk."""
        return self._request(modality, np.array([index])).fill().values

    def read(self, modalities: Sequence[str], indices: Sequence[int] | npt.NDArray[np.int64]) -> dict[str, Ragged]:
        """What `rows` gives, of several modalities and samples; faster than one after the other."""
        wanted = np.asarray(indices, np.int64)
        requests = {name: self._request(name, wanted) for name in modalities}
        for request in requests.values():
            request.announce()
        found = {name: request.fill() for name, request in requests.items()}
        return {
            name: Ragged(self._normalizers[name](rows.values), rows.cuts) if name in self._normalizers else rows
            for name, rows in found.items()
        }

    def _request(self, modality: str, indices: npt.NDArray[np.int64]) -> Request:
        return self._files[modality].request(
            indices, lambda index: f"store '{self.name}', sample '{self.sample_id(index)}', {modality}"
        )

    def task(self, name: str) -> TaskSchema:
        """The store's description of a task."""
        if name not in self.schema.tasks:
            known = ", ".join(self.schema.tasks) or "none"
            raise DataError(f"store '{self.name}' ({self.path}) has no task '{name}'; its tasks: {known}")
        return self.schema.tasks[name]

    def labels(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Labels of a task as float64, [N] or [N, C], and where there is one, bool [N].

        Errors: DataError naming the first sample whose label is out of range.
        """
        task, column = self.task(name), self.column(name)
        try:
            parts = zip(*(decode_labels(task, piece) for piece in pieces(column)), strict=True)
        except TypeError as error:
            raise DataError(f"store '{self.name}', column '{name}': {error}") from None
        values, labelled, wrong = (np.concatenate(part) for part in parts)
        if wrong.any():
            index = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"store '{self.name}', sample '{self.sample_id(index)}', column '{name}': label "
                f"{column[index].as_py()!r} is not {describe_labels(task)}"
            )
        return values, labelled

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what dataset.json records of the data files, of splits that are not theirs and of what is left out."""
        record = self.schema.model_dump(mode="json", include={"files", "samples", "modalities", "tasks"})
        record |= {} if self._splits is None else {"splits": list(self._splits)}
        record |= {"left_out": list(self.left_out)} if self.left_out else {}
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
