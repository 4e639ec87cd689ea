"""A table of samples and a folder of .npy files for each modality, to a store."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from data_prep.failures import Failure
from data_prep.importers.arrays import Rows, check_rows, describe_rows, file_name, read_rows
from data_prep.importers.target import Outcome, Target
from data_prep.importers.writing import Sample, write_store
from data_prep.manifest import Entry, read_manifest
from mmtrain.data.schema import FeatureSpec
from mmtrain.errors import ConfigError, DataError


@dataclass(frozen=True)
class Folder:
    """Where a modality's files lie, and what is known of their rows."""

    path: Path
    extractor: str = "unknown"
    rows_per_second: float | None = None
    allow_outside: bool = False  # files may be links that lead out of the folder

    def file(self, sample: str) -> Path:
        return self.path / file_name(sample)

    def rows(self, sample: str) -> Rows | None:
        """None where the sample has no file. Errors: DataError where it cannot be read, or lies elsewhere."""
        file = self.file(sample)
        if not os.path.lexists(file):
            return None
        real = Path(os.path.realpath(file))
        if not self.allow_outside and file.is_symlink() and not real.is_relative_to(os.path.realpath(self.path)):
            raise DataError(f"{file} is a link that leads out of its folder, to {real}; copy it, or pass --allow-outside")
        return read_rows(file)


def import_npy(table: Path, *, folders: Mapping[str, Folder], tasks: Mapping[str, str], target: Target) -> Outcome:
    """Write the store of a CSV, JSONL, JSON or Parquet table as of `read_manifest`, and of `FOLDER/<id>.npy` by modality.

    The first file that can be read says how wide a modality is, and whether it is float16, float32 or pixels. A row that is
    no sample (an id that comes twice, an unknown label, ...) is a failure as a file is that cannot be read.

    Errors: DataError for a bad table, a folder without a file that fits, MediaError as of `write_store`.
    """
    target.check()
    read = read_manifest(table, tasks=tasks, collect=True)
    for modality, folder in folders.items():
        if not folder.path.is_dir():
            raise ConfigError(f"--modality {modality}={folder.path}: not a folder; write that with the .npy files")
    specs, firsts = {}, {}
    for modality, folder in folders.items() if read.entries else ():
        firsts[modality], specs[modality] = _first(table, modality, folder, read.entries)
    return write_store(
        target,
        chain(read.failures, _samples(read.entries, folders, specs, firsts)),
        total=len(read.failures) + len(read.entries),
        name=read.name,
        modalities=specs,
        tasks=read.tasks,
        columns=read.columns,
        licence=read.licence,
        provenance={
            "made_by": "python -m data_prep import npy",
            "manifest": read.file.name,
            "manifest_sha256": read.sha256,
        },
    )


def _first(table: Path, modality: str, folder: Folder, entries: Sequence[Entry]) -> tuple[Path, FeatureSpec]:
    """The first file of a modality that can be read, and what its rows are."""
    reason = f"no {folder.file(entries[0].id)} and none for the other ids of {table}"
    for entry in entries:
        try:
            rows = folder.rows(entry.id)
        except DataError as error:
            reason = str(error)
            continue
        if rows is not None:
            spec = describe_rows(rows, extractor=folder.extractor, rows_per_second=folder.rows_per_second)
            return folder.file(entry.id), spec
    raise DataError(f"{folder.path} has not one file for '{modality}' that can be read: {reason}")


def _samples(
    entries: Sequence[Entry], folders: Mapping[str, Folder], specs: Mapping[str, FeatureSpec], firsts: Mapping[str, Path]
) -> Iterator[Sample | Failure]:
    for entry in entries:
        features: dict[str, Rows] = {}
        failure = None
        for modality, folder in folders.items():
            file = folder.file(entry.id)
            try:
                rows = folder.rows(entry.id)
                if rows is not None:
                    features[modality] = rows
                    check_rows(file, rows, specs[modality], expected=f"as in {firsts[modality].name}")
            except DataError as error:
                failure = failure or Failure(entry.id, modality, str(file), str(error))
        yield failure or Sample(
            entry.id, entry.split, entry.group, entry.text, features, labels=entry.labels, columns=entry.further
        )
