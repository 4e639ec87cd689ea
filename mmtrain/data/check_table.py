"""What can be wrong with samples.parquet: read in pieces, so that memory stays flat, and never trusted."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmtrain.data.labels import decode_labels, describe_labels
from mmtrain.data.schema import OWN_COLUMNS, SPLITS, TEXT, StoreSchema

MAX_SHOWN = 100  # defects of one kind that are named; the rest are counted
_PIECE = 65_536  # samples
# whatever a damaged parquet file makes pyarrow raise, while opening it or while decoding a page
UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError)


class Defect(NamedTuple):
    """Something wrong with one sample (by index), or with a whole column or file (None)."""

    sample: int | None
    column: str
    text: str


class Tally:
    """Defects of one kind: the first are kept, all are counted."""

    def __init__(self) -> None:
        self._shown: list[Defect] = []
        self._others = 0

    def add(self, defects: Iterable[Defect]) -> None:
        for defect in defects:
            if len(self._shown) < MAX_SHOWN:
                self._shown.append(defect)
            else:
                self._others += 1

    def lines(self) -> list[Defect]:
        """What is shown, and one line for the number of the others."""
        if not self._others:
            return self._shown
        return [*self._shown, Defect(None, self._shown[0].column, f"... and {self._others} more defects of this kind")]


@dataclass
class TableScan:
    """What one pass over the table found; `has_text` and `is_train` are bool [N], None where that cannot be told; `blank`:
    places of the texts of blanks alone.
    """

    defects: list[Defect] = field(default_factory=list)
    has_text: npt.NDArray[np.bool_] | None = None
    is_train: npt.NDArray[np.bool_] | None = None
    blank: list[int] = field(default_factory=list)


def scan_table(file: Path, schema: StoreSchema) -> TableScan:
    """Check all columns against the schema."""
    scan = TableScan()
    try:
        table = pq.ParquetFile(file)
        if table.metadata.num_rows != schema.samples:
            text = f"samples.parquet has {table.metadata.num_rows} samples, dataset.json says {schema.samples}"
            scan.defects.append(Defect(None, "id", text))
        scan.defects += _check_columns(table.schema_arrow, schema)
        _scan_pieces(file, table, schema, scan)
    except UNREADABLE as error:
        scan.has_text = scan.is_train = None
        scan.defects.append(Defect(None, "samples.parquet", f"not a readable parquet file ({_one_line(error)})"))
    return scan


def read_ids(file: Path, indices: Iterable[int]) -> dict[int, str]:
    """The ids of some samples; what cannot be read is left out."""
    wanted, names, start = np.unique(np.fromiter(indices, np.int64)), dict[int, str](), 0
    if not len(wanted):
        return names
    try:
        for piece in pq.ParquetFile(file).iter_batches(_PIECE, columns=["id"]):
            inside = wanted[(wanted >= start) & (wanted < start + len(piece))]
            names |= {int(index): str(piece.column(0)[int(index) - start].as_py()) for index in inside}
            start += len(piece)
    except UNREADABLE:
        pass
    return names


def _check_columns(found: pa.Schema, schema: StoreSchema) -> Iterator[Defect]:
    for column in (*OWN_COLUMNS, *schema.tasks):
        if column not in found.names:
            yield Defect(None, column, f"the column is missing; samples.parquet has {', '.join(found.names)}")
        elif column in OWN_COLUMNS[:4] and found.field(column).type not in (pa.string(), pa.large_string()):
            yield Defect(None, column, f"holds {found.field(column).type}, text was expected")


def _scan_pieces(file: Path, table: pq.ParquetFile, schema: StoreSchema, scan: TableScan) -> None:
    wrong = {defect.column for defect in scan.defects}
    columns = [name for name in (*OWN_COLUMNS, *schema.tasks) if name in table.schema_arrow.names and name not in wrong]
    hashes, has_text, sides = [np.empty(0, np.int64)], [np.empty(0, bool)], dict[str, str]()
    is_train = [np.empty(0, bool)]
    found: dict[str, Tally] = {}
    start = 0
    for piece in table.iter_batches(_PIECE, columns=columns):
        read = dict(zip(piece.schema.names, piece.columns, strict=True))
        for kind, defects in _check_piece(read, schema, sides):
            found.setdefault(kind, Tally()).add(_shift(defects, start))
        if "id" in read:
            hashes.append(np.array([hash(name) for name in read["id"].to_pylist()], np.int64))
        if TEXT in read:
            texts = read[TEXT].to_pylist()
            has_text.append(np.array([bool((text or "").strip()) for text in texts], bool))
            scan.blank += [start + place for place, text in enumerate(texts) if text and not text.strip()]
        if "split" in read:
            is_train.append(np.array([split == "train" for split in read["split"].to_pylist()], bool))
        start += len(piece)
    for tally in found.values():
        scan.defects += tally.lines()
    scan.defects += cap(_duplicates(file, np.concatenate(hashes)))
    scan.has_text = np.concatenate(has_text) if TEXT in columns else None
    scan.is_train = np.concatenate(is_train) if "split" in columns else None


def _check_piece(
    read: dict[str, pa.Array], schema: StoreSchema, sides: dict[str, str]
) -> Iterator[tuple[str, list[Defect]]]:
    for column in ("id", "group"):
        if column in read:
            names = read[column].to_pylist()
            yield (
                f"{column} empty",
                [Defect(i, column, f"the {column} is empty") for i, name in enumerate(names) if not name],
            )
    if "split" in read:
        yield "split", list(_unknown_splits(read["split"].to_pylist()))
    if "split" in read and "group" in read:
        yield "straddle", list(_straddling(read["group"].to_pylist(), read["split"].to_pylist(), sides))
    if TEXT in read and "text_characters" in read:
        lengths, told = pc.fill_null(pc.utf8_length(read[TEXT]), 0), pc.fill_null(read["text_characters"], 0)
        differ = np.flatnonzero(np.asarray(pc.not_equal(lengths, told).to_numpy(zero_copy_only=False)))
        texts = ((int(i), f"{told[int(i)]} is recorded, the text has {lengths[int(i)]} characters") for i in differ)
        yield "characters", [Defect(i, "text_characters", text) for i, text in texts]
    for task in schema.tasks.keys() & read.keys():
        yield task, _wrong_labels(task, schema, read[task])


def _unknown_splits(splits: Sequence[str | None]) -> Iterator[Defect]:
    for index, split in enumerate(splits):
        if split not in SPLITS:
            yield Defect(index, "split", f"unknown split {split!r}; it is one of {', '.join(SPLITS)}")


def _straddling(groups: Sequence[str], splits: Sequence[str], sides: dict[str, str]) -> Iterator[Defect]:
    for index, (group, split) in enumerate(zip(groups, splits, strict=True)):
        known = sides.setdefault(group, split)
        if known != split and group:
            yield Defect(index, "group", f"group '{group}' straddles the splits '{known}' and '{split}'")


def _wrong_labels(task: str, schema: StoreSchema, column: pa.Array) -> list[Defect]:
    try:
        _, _, wrong = decode_labels(schema.tasks[task], column)
    except TypeError as error:
        return [Defect(None, task, str(error))]
    expected = describe_labels(schema.tasks[task])
    return [Defect(int(i), task, f"label {column[int(i)].as_py()!r} is not {expected}") for i in np.flatnonzero(wrong)]


def _duplicates(file: Path, hashes: npt.NDArray[np.int64]) -> list[Defect]:
    """Ids that stand twice: suspected by a hash of 8 bytes a sample, confirmed by reading the few ids concerned."""
    order = np.argsort(hashes, kind="stable")
    again = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    pairs = [(int(order[place]), int(order[place + 1])) for place in again]
    names = read_ids(file, (index for pair in pairs[: MAX_SHOWN + 1] for index in pair))
    text = "the id stands in row {} too; ids are unique"
    return [Defect(later, "id", text.format(first)) for first, later in pairs if names.get(first) == names.get(later)]


def cap(defects: Iterable[Defect]) -> list[Defect]:
    """The first defects of a kind, and one line for the number of the others."""
    tally = Tally()
    tally.add(defects)
    return tally.lines()


def _shift(defects: Iterable[Defect], start: int) -> Iterator[Defect]:
    """Defects of a piece, counted from the beginning of the table."""
    for defect in defects:
        yield defect if defect.sample is None else defect._replace(sample=defect.sample + start)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
