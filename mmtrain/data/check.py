"""`mmtrain data check`: everything that can be wrong with a feature store, one line per defect."""

import hashlib
import shlex
from collections.abc import Iterable, Iterator
from keyword import iskeyword
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmtrain.data.bad_samples import rows_not_finite
from mmtrain.data.check_statistics import check_statistics
from mmtrain.data.check_table import MAX_SHOWN, Defect, cap, read_ids, scan_table
from mmtrain.data.schema import ModalitySchema, Shard, StoreSchema
from mmtrain.data.shard_file import map_shard
from mmtrain.data.store import read_schema
from mmtrain.errors import DataError


def check_store(path: Path) -> list[str]:
    """One line per defect, naming store, sample and column; empty where the store is whole.

    Reads every byte once, in pieces. A damaged or hostile store gives lines, never an exception.
    """
    try:
        schema = read_schema(path)
    except DataError as error:
        return [str(error)]
    table = path / "samples.parquet"
    lines = [f"store '{schema.name}', file '{name}': {text}" for name, text in _check_files(path, schema)]
    scan = scan_table(table, schema)
    defects = list(scan.defects)
    bare = None if scan.has_text is None or len(scan.has_text) != schema.samples else ~scan.has_text
    for name, modality in schema.modalities.items():
        found, lengths = _check_modality(path, name, modality)
        if not found and scan.is_train is not None and len(scan.is_train) == schema.samples:
            found += check_statistics(path, name, modality, scan.is_train)
        defects += found
        bare = None if bare is None or lengths is None else bare & (lengths == 0)
    if bare is not None:
        fix = _leave_out(path, schema, read_ids(table, (place for place in scan.blank if bare[place])).values())
        defects += cap(_nothing(int(index), schema, fix) for index in np.flatnonzero(bare))
    names = read_ids(table, (defect.sample for defect in defects if defect.sample is not None))
    return lines + [_line(defect, schema.name, names) for defect in defects]


def _line(defect: Defect, store: str, names: dict[int, str]) -> str:
    if defect.sample is None:
        return f"store '{store}', column '{defect.column}': {defect.text}"
    sample = f"sample '{names[defect.sample]}'" if defect.sample in names else f"sample number {defect.sample}"
    return f"store '{store}', {sample}, column '{defect.column}': {defect.text}"


def _nothing(index: int, schema: StoreSchema, fix: str) -> Defect:
    modalities = f" and it has no rows in {', '.join(schema.modalities)}" if schema.modalities else ""
    return Defect(index, "text", f"the text is empty{modalities}: the sample has nothing to learn from. {fix}")


def _leave_out(path: Path, schema: StoreSchema, blank: Iterable[str]) -> str:
    """The command that keeps all samples with text or rows; `blank`: ids of those without whose text has blanks alone."""
    rows = [
        f"{name}.rows" if name.isidentifier() and not iskeyword(name) else f'column("{name}.rows")'
        for name in schema.modalities
    ]
    where = " or ".join(f"{column} > 0" for column in ("text_characters", *rows))
    names = ", ".join(map(repr, blank))
    where = f"({where}) and id not in ({names},)" if names else where
    command = f"python -m data_prep filter {shlex.quote(str(path))} --where {shlex.quote(where)} --out NEW"
    return f"Leave out all such samples: {command}"


def _check_files(path: Path, schema: StoreSchema) -> Iterator[tuple[str, str]]:
    """Sizes and hashes of all data files, and whether all of them are recorded."""
    needed = {"samples.parquet"} | {shard.file for modality in schema.modalities.values() for shard in modality.shards}
    for name in sorted(needed - schema.files.keys()):
        yield name, "dataset.json records no size and hash for it"
    for name, record in schema.files.items():
        file = path / name
        if Path(name).name != name or file.is_symlink():
            yield name, "is not a plain file inside the store"
            continue
        try:
            size = file.stat().st_size
            if size != record.bytes:
                yield name, f"has {size} bytes, dataset.json says {record.bytes}"
                continue
            with file.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            yield name, f"cannot be read ({error.strerror})"
            continue
        if digest != record.sha256:
            yield name, f"its sha256 is {digest[:12]}..., dataset.json says {record.sha256[:12]}...: the bytes have changed"


def _check_modality(path: Path, name: str, modality: ModalitySchema) -> tuple[list[Defect], npt.NDArray[np.int64] | None]:
    """Defects of a modality's files, and the rows of each sample [N] (None where the offsets cannot tell)."""
    defects: list[Defect] = []
    lengths: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    whole = True
    for shard in modality.shards:
        try:
            values, offsets = map_shard(path / shard.file, modality, shard)
        except DataError as error:
            defects.append(Defect(None, name, str(error)))
            whole = False
            continue
        wrong = _check_offsets(name, offsets, shard)
        whole = whole and not wrong
        lengths.append(np.diff(offsets))
        defects += wrong
        defects += cap(_check_rows(name, values, offsets if not wrong else None, shard))
    return defects, np.concatenate(lengths) if whole else None


def _check_offsets(name: str, offsets: npt.NDArray[np.int64], shard: Shard) -> list[Defect]:
    begins, ends = offsets[:-1], offsets[1:]
    outside = (begins > ends) | (begins < 0) | (ends > shard.rows)
    text = "offsets {}:{} do not lie in order within the {} rows"
    numbers = np.flatnonzero(outside)
    defects = cap(Defect(shard.first + int(i), name, text.format(begins[i], ends[i], shard.rows)) for i in numbers)
    if offsets[0] != 0 or offsets[-1] != shard.rows:
        whole = f"{shard.file}: offsets run from {offsets[0]} to {offsets[-1]}, from 0 to {shard.rows} was expected"
        defects.append(Defect(None, name, whole))
    return defects


def _check_rows(
    name: str, values: npt.NDArray[np.number], offsets: npt.NDArray[np.int64] | None, shard: Shard
) -> Iterator[Defect]:
    """Samples that hold NaN or Inf; where the offsets are broken, the rows that do."""
    last = -1
    for bad in rows_not_finite(values):
        if offsets is None:
            yield from (Defect(None, name, f"{shard.file}: row {row} holds NaN or Inf") for row in bad[:MAX_SHOWN])
            continue
        for index in np.unique(np.searchsorted(offsets, bad, side="right") - 1):
            if index != last:
                last = int(index)
                yield Defect(shard.first + last, name, "its rows hold NaN or Inf")
