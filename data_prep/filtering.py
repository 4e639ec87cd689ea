"""Some samples of a store to a store of their own."""

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.rewriting import (
    add_sample,
    open_source,
    read_cells,
    read_pieces,
    statistics_note,
    stored_features,
    table_schema,
    writer_like,
)
from data_prep.where import Column, Condition, Kind, compile_where
from mmtrain.data.schema import SPLITS
from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError

_ROWS = ".rows"


def filter_store(path: Path, *, where: str, out: Path, overwrite: bool = False) -> list[str]:
    """Write the samples of which `where` is true; returns what a person should know of the result.

    Errors: ConfigError where the expression is not understood, DataError where no sample is left.
    """
    store = open_source(path, out=out, overwrite=overwrite)
    kept = matching(store, compile_where(where, columns_of(store)))
    if not kept.any():
        raise DataError(f"--where {where!r} is true of none of the {len(store)} samples of {path}; no store is written")
    sides: Counter[str] = Counter()
    with writer_like(store, out, command="filter", details={"where": where}, overwrite=overwrite) as writer:
        for index, cells in read_cells(store):
            if kept[index]:
                sides[cells["split"]] += 1
                add_sample(writer, cells, stored_features(store, index))
    shares = ", ".join(f"{split} {sides[split]}" for split in dict.fromkeys([*SPLITS, *sides]))
    return [f"{kept.sum()} of {len(store)} samples ({shares})", *statistics_note(store)]


def columns_of(store: FeatureStore) -> dict[str, Column]:
    """What an expression may ask of: the columns of samples.parquet, and the rows of each modality as `audio.rows`."""
    found = {}
    for field in table_schema(store):
        task = store.schema.tasks.get(field.name)
        classes = task.classes if task is not None and task.kind in ("binary", "multiclass") else ()
        found[field.name] = Column(_kind(field.type), whole=pa.types.is_integer(field.type), classes=classes)
    return found | {f"{name}{_ROWS}": Column("number", whole=True) for name in store.schema.modalities}


def _kind(arrow: pa.DataType) -> Kind:
    if pa.types.is_integer(arrow) or pa.types.is_floating(arrow):
        return "number"
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow):
        return "text"
    return "truth" if pa.types.is_boolean(arrow) else "other"


def matching(store: FeatureStore, condition: Condition) -> npt.NDArray[np.bool_]:
    """Of which samples the condition is true, [N]."""
    rows = {name: store.lengths(name.removesuffix(_ROWS)) for name in condition.columns if _is_rows(store, name)}
    columns = ["id", *(name for name in condition.columns if name not in rows and name != "id")]
    kept = np.zeros(len(store), bool)
    start = 0
    for piece in read_pieces(store, columns):
        end = start + len(piece)
        table = pa.Table.from_batches([piece])
        for name, lengths in rows.items():
            table = table.append_column(name, pa.array(lengths[start:end]))
        numbered = table.append_column(" number", pa.array(np.arange(start, end)))  # no column's name begins with a blank
        kept[numbered.filter(condition.expression).column(" number").to_numpy()] = True
        start = end
    return kept


def _is_rows(store: FeatureStore, name: str) -> bool:
    return name.endswith(_ROWS) and name.removesuffix(_ROWS) in store.schema.modalities
