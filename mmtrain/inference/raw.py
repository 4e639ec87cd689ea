"""From a table of media, or one media file, to a store: by the very extractors that the run's own stores were made with."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from rich.console import Console

from mmtrain.data.store import FeatureStore
from mmtrain.engine.run_folder import write_whole
from mmtrain.errors import ConfigError, DataError
from mmtrain.inference.trained_model import TrainedModel
from mmtrain.signature import settings_of

TIMES: Mapping[str, pa.DataType] = {"from_second": pa.float64(), "to_second": pa.float64()}  # of windows
_SPLIT = "test"  # of samples in a manifest without splits
_Outcome = tuple[list[Any], list[Any]]  # samples left out, flaws of texts


@dataclass(frozen=True, kw_only=True)
class Media:
    """One clip to be looked at, whole or in windows of `window` seconds that begin `every` seconds after each other."""

    file: Path | None = None  # a video or sound file
    subtitles: Path | None = None
    text: str | None = None
    window: float | None = None
    every: float | None = None


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """How media are extracted, beyond what the run's stores say."""

    weights: Mapping[str, str] = field(default_factory=dict)  # extractor -> FILE, as `data_prep extract` takes them
    without: Sequence[str] = ()  # modalities that are not read
    workers: int = 1
    allow_outside: bool = False


@contextmanager
def extracted(
    model: TrainedModel,
    manifest: Path,
    how: Extraction,
    *,
    beside: Path,
    skip_bad: bool,
    allow_outside: bool,
    console: Console,
) -> Iterator[FeatureStore]:
    """The store of a manifest's samples. It lies beside the file `beside` while it is used; a stopped extraction goes on.

    Errors: DataError or ConfigError where the run's extractors are not known or cannot be had; MediaError where a file
    cannot be read, and bad ones are not to be skipped.
    """
    from data_prep.extract import extract
    from data_prep.failures import describe_report, report_of
    from data_prep.manifest import read_manifest

    store, failed = beside.with_name(f".{beside.name}.store"), report_of(beside)
    mark = store.with_name(store.name + ".key")
    read = read_manifest(manifest, allow_outside=allow_outside, collect=True, split=_SPLIT)
    columns = {column for entry in read.entries for column in entry.media}
    columns |= {"audio"} if "video" in columns else set()  # it may have a track
    nobody_has = [name for name in model.signature.modalities if name in model.modalities and name not in columns]
    wanted, options, random = extractors_of(model, without=[*how.without, *nobody_has])
    weights = random | dict(how.weights)
    key = _key(read, wanted, options, weights, skip_bad)
    if not (store.is_dir() and mark.is_file() and mark.read_text(encoding="utf-8") == key):
        failed.unlink(missing_ok=True)
        failures, flaws = _in_own_words(
            extract,
            failed,
            manifest,
            out=store,
            wanted=wanted,
            options=options,
            weights=weights,
            workers=how.workers,
            allow_outside=allow_outside,
            allow_failures=len(read.entries) + len(read.failures) - 1 if skip_bad else 0,
            overwrite=True,
            split=_SPLIT,
            console=console,
        )
        if failures or flaws:
            report_of(store).replace(failed)
            console.print(describe_report(failed, failures, flaws), markup=False, highlight=False, soft_wrap=True)
        write_whole(mark, key)
    yield FeatureStore(store)
    shutil.rmtree(store)  # where what follows failed, it is there for the next call
    mark.unlink()


def _in_own_words(extract: Callable[..., _Outcome], report: Path, *words: Any, **named: Any) -> _Outcome:
    """An extraction whose complaints name the options of this command, and that lists what failed in `report`."""
    from data_prep.failures import MediaError, report_of

    try:
        return extract(*words, **named)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--weights", "--extractor-weights")) from None
    except MediaError as error:
        report_of(named["out"]).replace(report)
        first, count = error.failures[0], len(error.failures)
        ways = ["--skip-bad answers the others"] if count < error.total else []
        if first.modality in named["wanted"]:
            ways.append(f"--without {first.modality} answers all by what else they have")
        advice = "; ".join(ways) or "Mend the data"
        raise DataError(
            f"{count} sample{'s' if count != 1 else ''} cannot be read. The first: sample '{first.id}', {first.modality} "
            f"{first.file}: {first.reason}. All: {report}. {advice}"
        ) from None


def _key(read: Any, *asked: Any) -> str:
    """What a store is made of: the manifest, its files as they are now, and what is asked of them."""
    files = sorted({str(file) for entry in read.entries for file in entry.media.values()})
    found = [(name, stat.st_size, stat.st_mtime_ns) for name in files if (stat := _stat(Path(name))) is not None]
    return hashlib.sha256(json.dumps([read.sha256, found, *asked], sort_keys=True).encode()).hexdigest()


def _stat(file: Path) -> os.stat_result | None:
    return file.stat() if file.exists() else None


def extractors_of(
    model: TrainedModel, *, without: Sequence[str] = ()
) -> tuple[dict[str, str], dict[str, Any], dict[str, str]]:
    """(modality -> extractor as it was asked for, the options that they share, extractor -> random where it had such
    weights) of a run's stores.

    Errors: DataError where a store does not say how it was extracted, or datasets were extracted in several ways.
    """
    from data_prep.extractors.choose import find_maker

    wanted: dict[str, str] = {}
    options: dict[str, Any] = {}
    random: dict[str, str] = {}
    for modality in without:
        if modality not in model.modalities:
            raise ConfigError(f"--without {modality}: the model reads {', '.join(model.modalities)}")
    for modality, item in model.signature.modalities.items():
        if modality not in model.modalities or modality in without:
            continue
        first, *others = [source.made for source in item.sources.values()]
        if first is None or "asked" not in first:
            names = ", ".join(sorted({source.extractor for source in item.sources.values()}))
            raise DataError(
                f"{modality}: the run's stores do not say how its rows were extracted (extractor: {names}). Make a store of "
                f"the new clips in the same way and write --store, or leave it out with --without {modality}"
            )
        if any(other is None or _asked(other) != _asked(first) for other in others):
            raise DataError(
                f"{modality}: the run's datasets were extracted in several ways; make a store, and write --store"
            )
        wanted[modality] = first["asked"]
        random |= {first["asked"]: "random"} if "random" in first["weights_sha256"] else {}
        maker = find_maker(modality, first["asked"])
        preset = {"device", "batch_size", *getattr(maker, "keywords", {})}
        for key, value in first["options"].items():
            if key not in preset and options.setdefault(key, value) != value:
                raise DataError(
                    f"{modality}: its option {key} was {value}, of another modality {options[key]}; write --store"
                )
    return wanted, options, random


def _asked(made: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    return made.get("asked"), settings_of(made)


@contextmanager
def media_manifest(media: Media) -> Iterator[Path]:
    """A manifest of one clip, or of its windows; its paths are absolute.

    Errors: ConfigError where nothing is given or a window is no time; DataError for a file that cannot be read.
    """
    from data_prep.media.container import AUDIO_SUFFIXES, VIDEO_SUFFIXES

    row: dict[str, Any] = {}
    for file in (media.file, media.subtitles):
        if file is not None and not file.is_file():
            raise DataError(f"there is no file {file}")
    if media.file is not None:
        suffix = media.file.suffix.lower()
        if suffix not in VIDEO_SUFFIXES | AUDIO_SUFFIXES:
            raise ConfigError(f"--media {media.file}: neither a video nor a sound file by its name; write a --manifest")
        row["video" if suffix in VIDEO_SUFFIXES else "audio"] = str(media.file.resolve())
    if media.subtitles is not None:
        row["subtitles"] = str(media.subtitles.resolve())
    if media.text is not None:
        row["text"] = media.text
    name = media.file.stem if media.file is not None else "clip"  # as a manifest would call it
    rows = [{"id": name, **row}]
    if media.window is not None:
        rows = [{"id": f"{name}@{float(start)!r}", **row, **_times(start, end)} for start, end in _windows(media)]
    with TemporaryDirectory() as folder:
        manifest = Path(folder) / "media.jsonl"
        manifest.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")
        yield manifest


def _times(start: Fraction, end: Fraction) -> dict[str, float]:
    return {"start": float(start), "end": float(end), "from_second": float(start), "to_second": float(end)}


def _windows(media: Media) -> Iterator[tuple[Fraction, Fraction]]:
    """From the file's beginning to its end; the last one is cut where the file ends."""
    from data_prep.media.container import duration

    if media.file is None:
        raise ConfigError("--window: there is no --media to cut")
    window = Fraction(str(media.window))
    every = window if media.every is None else Fraction(str(media.every))
    if window <= 0 or every <= 0:
        raise ConfigError("--window and --every are seconds above 0")
    try:
        whole = duration(media.file)
    except DataError as error:
        raise DataError(f"{media.file}: {error}") from None
    start = Fraction(0)
    while start < whole:
        yield start, min(start + window, whole)
        start += every
