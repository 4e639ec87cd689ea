"""Reading a store sample by sample and writing a new one of it: memory stays flat, and what is read is never touched."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmtrain.data.check_table import UNREADABLE
from mmtrain.data.schema import OWN_COLUMNS, FeatureSpec, ModalitySchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter, check_target
from mmtrain.errors import DataError

Cells = dict[str, Any]  # one row of samples.parquet
_PIECE = 4096  # samples


def open_source(path: Path, *, out: Path | None, overwrite: bool) -> FeatureStore:
    """The store at `path`. Errors: DataError where it is none, or `out` may not be written or lies over it."""
    if out is not None:
        here, there = path.resolve(), out.resolve()
        if here == there or here in there.parents or there in here.parents:
            raise DataError(f"--out {out} lies over the store that is read ({path}), which stays as it is; choose another")
        check_target(out, overwrite=overwrite)
    return FeatureStore(path)


def table_schema(store: FeatureStore) -> pa.Schema:
    """Columns of samples.parquet with their types. Errors: DataError where dataset.json says otherwise."""
    file = store.path / "samples.parquet"
    try:
        table = pq.ParquetFile(file)
    except UNREADABLE as error:
        raise DataError(f"{file}: not a readable parquet file ({error})") from None
    lacking = {*OWN_COLUMNS, *store.schema.tasks} - set(table.schema_arrow.names)
    if lacking:
        raise DataError(f"{file} lacks the column '{min(lacking)}'; run `mmtrain data check {store.path}`")
    if table.metadata.num_rows != len(store):
        raise DataError(f"{file} has {table.metadata.num_rows} samples, dataset.json says {len(store)}")
    return table.schema_arrow


def read_pieces(store: FeatureStore, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """samples.parquet piece by piece; `columns` None: all of them. Errors: DataError for a damaged file."""
    table_schema(store)
    file = store.path / "samples.parquet"
    pieces = pq.ParquetFile(file).iter_batches(_PIECE, columns=columns)
    while True:
        try:
            piece = next(pieces, None)
        except UNREADABLE as error:
            raise DataError(f"{file}: not a readable parquet file ({error})") from None
        if piece is None:
            return
        yield piece


def read_cells(store: FeatureStore, columns: Sequence[str] | None = None) -> Iterator[tuple[int, Cells]]:
    """Index and cells of every sample."""
    index = 0
    for piece in read_pieces(store, columns):
        for cells in piece.to_pylist():
            yield index, cells
            index += 1


def further_columns(store: FeatureStore) -> dict[str, pa.DataType]:
    """Columns that are neither the store's own nor labels."""
    taken = {*OWN_COLUMNS, *store.schema.tasks}
    return {field.name: field.type for field in table_schema(store) if field.name not in taken}


def spec_of(modality: ModalitySchema) -> FeatureSpec:
    """What the rows are; statistics stay behind, since they are those of one store's train."""
    return FeatureSpec.model_validate(modality.model_dump(exclude={"shards", "statistics"}))


def origin(store: FeatureStore) -> dict[str, Any]:
    """What provenance keeps of a store that was read."""
    schema = store.schema
    return {
        "name": schema.name,
        "samples": schema.samples,
        "fingerprint": store.fingerprint,
        "licence": schema.licence,
        "provenance": schema.provenance,
    }


def statistics_note(store: FeatureStore) -> list[str]:
    """A sentence where the store has statistics, which a new store does not inherit."""
    if all(modality.statistics is None for modality in store.schema.modalities.values()):
        return []
    return [f"the statistics of {store.path} are not kept: measure those of the new store by `stats`"]


def writer_like(
    store: FeatureStore,
    out: Path,
    *,
    command: str,
    details: Mapping[str, Any],
    modalities: Mapping[str, FeatureSpec] | None = None,
    overwrite: bool,
) -> StoreWriter:
    """A writer of a store with the same name, tasks and columns; its provenance tells where it comes from."""
    own = {name: spec_of(modality) for name, modality in store.schema.modalities.items()}
    return StoreWriter(
        out,
        name=store.name,
        modalities=own if modalities is None else modalities,
        tasks=store.schema.tasks,
        columns=further_columns(store),
        licence=store.schema.licence,
        provenance={"made_by": f"python -m data_prep {command}", **details, "sources": [origin(store)]},
        overwrite=overwrite,
    )


def stored_features(store: FeatureStore, index: int) -> dict[str, npt.NDArray[np.number]]:
    """The rows of a sample as they lie on disk, of the modalities that it has."""
    rows = {name: store.stored_rows(name, index) for name in store.schema.modalities}
    return {name: values for name, values in rows.items() if len(values)}


def add_sample(writer: StoreWriter, cells: Cells, features: Mapping[str, npt.NDArray[np.number]], **changes: str) -> None:
    """Append a sample as it was read; `changes`: id, split, group."""
    kept = {key: cells[key] or "" for key in ("id", "split", "group", "text")} | changes
    writer.add(
        id=kept["id"],
        split=kept["split"],
        group=kept["group"],
        text=kept["text"],
        features=features,
        labels={task: cells.get(task) for task in writer.tasks},
        columns={name: value for name, value in cells.items() if name not in OWN_COLUMNS and name not in writer.tasks},
    )
