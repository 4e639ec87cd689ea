"""A manifest and its media files to a feature store; a file that cannot be read is named, never replaced by zeros."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from data_prep.extractors import AUDIO, VIDEO, Extractor
from data_prep.failures import Failure, MediaError
from data_prep.fetch.record import write_text
from data_prep.manifest import MEDIA, Entry, Manifest, read_manifest
from data_prep.progress import track
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import ConfigError, DataError

Features = dict[str, npt.NDArray[np.floating]]


def extract(
    manifest: Path,
    *,
    out: Path,
    audio: str | None = None,
    video: str | None = None,
    tasks: Mapping[str, str] | None = None,
    allow_failures: int = 0,
    overwrite: bool = False,
    console: Console,
) -> list[Failure]:
    """Write the store; returns the samples left out because a file of theirs cannot be read (`<out>.failures.jsonl`).

    Errors: DataError for a bad manifest, before any file is read; MediaError, after all files were tried and with no store
    written, where more than `allow_failures` samples failed.
    """
    if out.exists() and not overwrite:
        raise DataError(f"{out} exists already; choose another folder or pass --overwrite")
    read = read_manifest(manifest, tasks=tasks)
    extractors = _choose(read, audio, video)
    for note in _notes(read, extractors):
        console.print(note, markup=False, highlight=False)
    report = out.with_name(out.name + ".failures.jsonl")
    failures: list[Failure] = []
    with StoreWriter(
        out,
        name=read.name,
        modalities={modality: extractor.spec for modality, extractor in extractors.items()},
        tasks=read.tasks,
        columns=read.columns,
        licence=read.licence,
        provenance=_provenance(read, extractors),
        overwrite=overwrite,
    ) as writer:
        for entry in track(read.entries, f"extracting {read.name}", console=console):
            features = _features(entry, extractors)
            if isinstance(features, Failure):
                failures.append(features)
            else:
                _add(writer, entry, features)
        _report(report, failures)
        if len(failures) > allow_failures:
            raise MediaError(_summary(failures, read, report, allow_failures))
    return failures


def _notes(read: Manifest, extractors: Mapping[str, Extractor]) -> Iterator[str]:
    """What of the manifest does not go into the store, and could."""
    if not read.tasks:
        yield f"{read.file} has no task: say which columns are labels by --task column=kind, or in its sidecar"
    for modality in MEDIA:
        count = sum(modality in entry.media for entry in read.entries)
        if count and modality not in extractors:
            yield f"column '{modality}' ({count} files) is left out: name an extractor by --{modality}"


def _choose(read: Manifest, audio: str | None, video: str | None) -> dict[str, Extractor]:
    """The extractors asked for, by modality; each has a file to read."""
    chosen: dict[str, Extractor] = {}
    tables: Sequence[tuple[str, str | None, Mapping[str, Callable[[], Extractor]]]]
    tables = (("audio", audio, AUDIO), ("video", video, VIDEO))
    for modality, name, table in tables:
        if name is not None:
            if name not in table:
                raise ConfigError(f"--{modality} {name}: unknown extractor; write one of {', '.join(table)}")
            if not any(modality in entry.media for entry in read.entries):
                raise DataError(
                    f"{read.file} names no file in a column '{modality}'; leave --{modality} out or fill the column"
                )
            chosen[modality] = table[name]()
    return chosen


def _add(writer: StoreWriter, entry: Entry, features: Features) -> None:
    writer.add(
        id=entry.id,
        split=entry.split,
        group=entry.group,
        text=entry.text,
        features=features,
        labels=entry.labels,
        columns=entry.further,
    )


def _features(entry: Entry, extractors: Mapping[str, Extractor]) -> Features | Failure:
    features: Features = {}
    for modality, extractor in extractors.items():
        file = entry.media.get(modality)
        if file is not None:
            try:
                features[modality] = extractor(file)
            except DataError as error:
                return Failure(entry.id, modality, str(file), str(error))
    return features


def _provenance(read: Manifest, extractors: Mapping[str, Extractor]) -> dict[str, object]:
    return {
        "made_by": "python -m data_prep extract",
        "manifest": read.file.name,
        "manifest_sha256": read.sha256,
        "extractors": {
            modality: {
                "name": extractor.spec.extractor,
                "version": extractor.spec.extractor_version,
                "weights_sha256": extractor.weights,
            }
            for modality, extractor in extractors.items()
        },
    }


def _report(file: Path, failures: Sequence[Failure]) -> None:
    """Write failures.jsonl, or remove that of an earlier attempt."""
    if failures:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, "".join(json.dumps(vars(failure), ensure_ascii=False) + "\n" for failure in failures))
    else:
        file.unlink(missing_ok=True)


def _summary(failures: Sequence[Failure], read: Manifest, report: Path, allowed: int) -> str:
    first = failures[0]
    return (
        f"{len(failures)} of {len(read.entries)} samples in {read.file} name a file that cannot be read "
        f"({allowed} allowed): no store was written. The first: sample '{first.id}', {first.modality} {first.file}: "
        f"{first.reason}. "
        f"All: {report}. Mend the files, or leave these samples out with --allow-failures {len(failures)}"
    )
