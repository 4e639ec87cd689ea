"""One sample of a manifest: its media through the extractors, its text, or the reason why it has to be left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.extractors import Extractor
from data_prep.failures import Failure
from data_prep.finished import Finished, Rows
from data_prep.manifest import TEXTS, Entry, Manifest
from data_prep.media.span import WHOLE, Span
from data_prep.texts import Text, read_text
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError

CUES = "cues"  # the column of samples.parquet that says when each part of a text was on screen


@dataclass(frozen=True)
class Samples:
    """What the samples of one extraction have in common.

    `identities`: modality -> all that its rows depend on beside the file. `sound_of_video`: the video's file is the sound's.
    """

    extractors: Mapping[str, Extractor]
    identities: Mapping[str, Mapping[str, Any]]
    finished: Finished
    sound_of_video: bool
    has_cues: bool

    def extract(self, entry: Entry) -> Failure | Text:
        """Make and keep the rows of all modalities that are not there yet; its text, or why it is left out."""
        for modality, (file, span) in self._media(entry).items():
            try:
                place = self.finished.place(file, span, self.identities[modality])
                rows = None if place.is_file() else _rows(self.extractors[modality], file, span)
            except DataError as error:
                return Failure(entry.id, modality, str(file), str(error))
            if rows is not None:
                self.finished.save(place, rows)
        try:
            return self._text(entry)
        except DataError as error:
            return Failure(entry.id, "text", str(self.text_file(entry)), str(error))

    def add(self, writer: StoreWriter, entry: Entry) -> None:
        """Put a sample that was extracted into the store."""
        features = {}
        for modality, (file, span) in self._media(entry).items():
            place = self.finished.place(file, span, self.identities[modality])
            rows = self.finished.load(place)
            features[modality] = _rows(self.extractors[modality], file, span) if rows is None else rows
        text = self._text(entry)
        writer.add(
            id=entry.id,
            split=entry.split,
            group=entry.group,
            text=text.text,
            features=features,
            labels=entry.labels,
            columns={**entry.further, **({CUES: text.cues or None} if self.has_cues else {})},
        )

    def _media(self, entry: Entry) -> dict[str, tuple[Path, Span]]:
        """File and span by modality; a picture has no time."""
        found = {}
        for modality in self.extractors:
            file = entry.media.get("video" if modality == "audio" and self.sound_of_video else modality)
            if file is not None:
                found[modality] = (file, WHOLE if modality == "image" else entry.span)
        return found

    def _text(self, entry: Entry) -> Text:
        file = self.text_file(entry)
        if file is None:
            return Text(entry.text)
        return read_text(file, entry.span)

    def text_file(self, entry: Entry) -> Path | None:
        """Where its text stands; None where that is the manifest."""
        return next((entry.media[column] for column in TEXTS if column in entry.media), None)


def columns_of(manifest: Manifest) -> dict[str, pa.DataType]:
    """The further columns of the store. Errors: DataError where the manifest has a column that subtitles would take."""
    columns = dict(manifest.columns)
    if any("subtitles" in entry.media for entry in manifest.entries):
        if CUES in columns or CUES in manifest.tasks:
            raise DataError(f"{manifest.file}: the column '{CUES}' is where the times of subtitles go; give it another name")
        columns[CUES] = pa.string()
    return columns


def _rows(extractor: Extractor, file: Path, span: Span) -> Rows:
    """Errors: DataError where the file cannot be read or gives rows that no store may hold."""
    try:
        rows = extractor(file, span)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # one file may not end the work on all others, whatever a library makes of it
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise DataError(f"the extractor {extractor.spec.extractor} failed ({type(error).__name__}: {error})") from error
    if not len(rows):
        raise DataError(f"the extractor {extractor.spec.extractor} made no row of it")
    if not np.isfinite(rows.astype(extractor.spec.dtype)).all():
        raise DataError(f"the extractor {extractor.spec.extractor} made NaN or Inf of it (as {extractor.spec.dtype})")
    return rows
