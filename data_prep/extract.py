"""A manifest and its media files to a feature store; a file that cannot be read is named, never replaced by zeros."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from data_prep.extractors import Extractor
from data_prep.extractors.choose import choose
from data_prep.failures import Failure, check_allowed, write_report
from data_prep.finished import finished_rows, full_disk
from data_prep.manifest import MEDIA, Manifest, read_manifest
from data_prep.media.span import WHOLE
from data_prep.progress import track
from data_prep.provenance import describe_extraction, describe_extractor
from data_prep.sample import Samples, columns_of
from data_prep.shard import Shard
from data_prep.workers import work_through
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError
from mmtrain.extras import require


def extract(  # noqa: PLR0913 - one keyword per option of the command
    manifest: Path,
    *,
    out: Path,
    wanted: Mapping[str, str],
    options: Mapping[str, Any] | None = None,
    weights: Mapping[str, str] | None = None,
    tasks: Mapping[str, str] | None = None,
    workers: int = 1,
    allow_outside: bool = False,
    allow_failures: int = 0,
    overwrite: bool = False,
    split: str | None = None,
    text: str | None = None,
    shard: Shard | None = None,
    console: Console,
) -> tuple[list[Failure], list[Failure]]:
    """Write the store; returns the samples left out because a row or file of theirs is bad, and the flaws of texts in it.

    Both are lines of `<out>.failures.jsonl`, which the caller is to name.

    `wanted`: modality -> extractor; `options` and `weights`: as `choose`; `split`, `text`: as `read_manifest`; `shard`: a
    part of the samples. What is extracted is kept beside the store until that is whole: the same command goes on where an
    earlier one was stopped, and ends with the same bytes.

    Errors: DataError for a bad manifest, before any file is read; MediaError, after all files were tried and with no store
    written, where more than `allow_failures` samples failed.
    """
    if out.exists() and not overwrite:
        raise DataError(f"{out} exists already; choose another folder or pass --overwrite")
    makers = choose(wanted, options=options or {}, weights=weights or {})
    read = read_manifest(manifest, tasks=tasks, allow_outside=allow_outside, collect=True, split=split, text=text)
    _stop_beyond(allow_failures, read.failures, read, out)
    sound_of_video = not any("audio" in entry.media for entry in read.entries)
    _check_files(read, wanted, sound_of_video=sound_of_video)
    columns = columns_of(read)
    read = read if shard is None else shard.of(read)
    extractors = {modality: make() for modality, make in makers.items()}
    used = {modality: getattr(make, "keywords", {}) for modality, make in makers.items()}
    for note in _notes(read, extractors, asks_labels=split is None):  # what is only to be answered has none
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    with finished_rows(out) as finished:
        samples = Samples(
            extractors=extractors,
            identities={key: describe_extractor(extractors[key], wanted[key], used[key]) for key in extractors},
            finished=finished,
            sound_of_video=sound_of_video,
            has_cues=len(columns) > len(read.columns),
        )
        unread, flaws = _extract_all(read, samples, workers, console)
        failures = [*read.failures, *unread]
        _stop_beyond(allow_failures, failures, read, out, flaws=flaws)
        provenance = describe_extraction(read, extractors, wanted, used, text=text, shard=shard)
        left_out = {failure.id for failure in failures if failure.modality != "manifest"}
        _write(out, read, samples, left_out, columns=columns, provenance=provenance, overwrite=overwrite)
    return failures, flaws


def _extract_all(read: Manifest, samples: Samples, workers: int, console: Console) -> tuple[list[Failure], list[Failure]]:
    """The samples whose files cannot be read, and what is wrong with texts that can, in the manifest's order."""
    failures: list[Failure] = []
    flaws: list[Failure] = []
    results = work_through(read.entries, samples.extract, workers=workers)
    for entry, result in zip(
        read.entries, track(results, f"extracting {read.name}", total=len(read.entries), console=console), strict=True
    ):
        if isinstance(result, Failure):
            failures.append(result)
            continue
        flaws += [Failure(entry.id, "text", str(samples.text_file(entry)), flaw) for flaw in result.flaws]
    return failures, flaws


def _write(
    out: Path,
    read: Manifest,
    samples: Samples,
    left_out: Collection[str],
    *,
    columns: Mapping[str, Any],
    provenance: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """The store of what was extracted. Errors: DataError where the disk refuses it."""
    try:
        with StoreWriter(
            out,
            name=read.name,
            modalities={modality: extractor.spec for modality, extractor in samples.extractors.items()},
            tasks=read.tasks,
            columns=columns,
            licence=read.licence,
            provenance=provenance,
            overwrite=overwrite,
        ) as writer:
            for entry in read.entries:
                if entry.id not in left_out:
                    samples.add(writer, entry)
    except OSError as error:
        raise full_disk(out, error) from None


def _check_files(read: Manifest, wanted: Mapping[str, str], *, sound_of_video: bool) -> None:
    """Errors: DataError where an extractor has no file at all to read, ConfigError where a package is missing for texts."""
    for modality in wanted:
        columns = ("audio", "video") if modality == "audio" and sound_of_video else (modality,)
        if not any(column in entry.media for entry in read.entries for column in columns):
            raise DataError(f"{read.file} names no file in a column '{modality}'; leave --{modality} out or fill the column")
    if any("subtitles" in entry.media for entry in read.entries):
        require("reading subtitles", ("pysubs2",), extra="prep")


def _notes(read: Manifest, extractors: Mapping[str, Extractor], *, asks_labels: bool) -> Iterator[str]:
    """What of the manifest does not go into the store, and could; and what should not be taken for features."""
    if asks_labels and not read.tasks:
        yield f"{read.file} has no task: say which columns are labels by --task column=kind, or in its sidecar"
    for modality in MEDIA:
        count = sum(modality in entry.media for entry in read.entries)
        if count and modality not in extractors:
            yield f"column '{modality}' ({count} files) is left out: name an extractor by --{modality}"
    shared = Counter(
        entry.media["text_file"] for entry in read.entries if "text_file" in entry.media and entry.span != WHOLE
    )
    for file, count in shared.items():
        if count > 1:
            yield (
                f"warning: {file} is the whole text of {count} clips: a plain text has no times to cut it by. Give each "
                "clip a file of its own, or subtitles"
            )
    for modality, extractor in extractors.items():
        if "random" in extractor.weights:
            yield f"warning: --{modality} {extractor.spec.extractor} has random weights; its rows are for trying things out"


def _stop_beyond(
    allowed: int, failures: Sequence[Failure], read: Manifest, out: Path, *, flaws: Sequence[Failure] = ()
) -> None:
    """Errors: MediaError where there are more than allowed."""
    write_report(out, failures, flaws=flaws)
    total = len(read.entries) + len(read.failures)
    check_allowed(out, failures, allowed=allowed, total=total, what=f"samples in {read.file} cannot be read")
