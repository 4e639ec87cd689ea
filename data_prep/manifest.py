"""Reading a manifest: which samples, which media, which labels; everything is checked before anything is extracted."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
from pydantic import Field, ValidationError

from data_prep.columns import further_columns, further_values, is_number
from data_prep.failures import Failure
from data_prep.manifest_labels import declare_task, parse_label
from data_prep.manifest_paths import path_inside
from data_prep.manifest_rows import read_rows
from data_prep.media.span import Span
from data_prep.split import count_by_group, split_groups
from mmtrain.data.sample_row import Label
from mmtrain.data.schema import OWN_COLUMNS, SPLITS, TaskSchema
from mmtrain.errors import ConfigError, DataError
from mmtrain.section import Section

MEDIA = ("audio", "video", "image")
TEXTS = ("text_file", "subtitles")
SPAN = ("start", "end")
SOURCES = ("text", *TEXTS)  # of a sample's text
NO_TEXT = "none"


@dataclass(frozen=True)
class Entry:
    """One row: a sample to be."""

    id: str
    split: str
    group: str
    text: str
    media: Mapping[str, Path]  # modality, text_file or subtitles -> file; left out where the cell is empty
    span: Span  # of audio, video and subtitles
    labels: Mapping[str, Label]  # task -> label; left out where the cell is empty
    further: Mapping[str, float | str | None]  # column -> value; None where the cell is empty


class Sidecar(Section):
    """What `<manifest>.json` says beside `<manifest>.csv`."""

    name: str = Field(default="", description="Of the data set; empty: the manifest's own.")
    licence: str = Field(default="", description="Of the data, kept in the store; any words.")
    tasks: dict[str, TaskSchema] = Field(default_factory=dict, description="By column, what its labels are.")


@dataclass(frozen=True)
class Manifest:
    """All rows, and the data set that they make."""

    file: Path
    sha256: str
    name: str
    licence: str
    tasks: Mapping[str, TaskSchema]
    columns: Mapping[str, pa.DataType]  # of `Entry.further`
    entries: Sequence[Entry] = field(repr=False)
    failures: Sequence[Failure] = ()  # rows that are no sample


def read_manifest(
    file: Path,
    *,
    tasks: Mapping[str, str] | None = None,
    allow_outside: bool = False,
    collect: bool = False,
    split: str | None = None,
    text: str | None = None,
) -> Manifest:
    """Read a CSV, JSONL or Parquet manifest, or a folder of media.

    `tasks`: column -> kind, beside or instead of the sidecar's. `allow_outside`: media may lie outside of the manifest's
    folder. `collect`: a row that is no sample (an id that comes twice, an unknown label, ...) is left out and told in
    `Manifest.failures`, where else it is an error. `split`: of all samples, where the manifest does not say; None: groups
    are divided. `text`: the column of `SOURCES` that is read, or `none`; None: that which a sample fills.

    Errors: DataError naming the line and column of whatever is not as it should be.
    """
    rows, digest = read_rows(file)
    if not rows:
        raise DataError(f"{file} has no samples")
    columns = rows[0][1].keys()
    if "id" not in columns:
        raise DataError(f"{file} has no column 'id'; it has {', '.join(columns)}")
    sources = _sources(file, text, columns)
    sidecar = _sidecar(file)
    schemas = dict(sidecar.tasks)
    for task, kind in (tasks or {}).items():
        schemas[task] = declare_task(file, task, kind, [row.get(task, "") for _, row in rows])
    for task in schemas:
        if task not in columns:
            raise DataError(f"{file} has no column '{task}' for the task of that name; it has {', '.join(columns)}")
    splits = {}
    if "split" not in columns:
        splits = (
            _splits(file, rows)
            if split is None
            else dict.fromkeys((row.get("group") or row["id"] for _, row in rows), split)
        )
    further = further_columns([row for _, row in rows], {*OWN_COLUMNS, *MEDIA, *TEXTS, *SPAN, *schemas})
    reader = _Reader(file, schemas, splits, further, sources=sources, allow_outside=allow_outside)
    entries, failures = [], []
    for line, row in rows:
        try:
            entries.append(reader.read(line, row))
        except DataError as error:
            if not collect:
                raise
            failures.append(Failure(row["id"], "manifest", str(file), str(error)))
    name = sidecar.name or (file.resolve().name if file.is_dir() else file.stem)
    return Manifest(file, digest, name, sidecar.licence, schemas, further, entries, failures)


def _sidecar(manifest: Path) -> Sidecar:
    file = manifest.with_suffix(".json")
    if file == manifest or not file.is_file():
        return Sidecar()
    try:
        return Sidecar.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{file}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from None


def _sources(file: Path, text: str | None, columns: Collection[str]) -> Sequence[str]:
    """The columns that texts are taken from. Errors: ConfigError for one that is none, DataError where it is not there."""
    if text is None:
        return SOURCES
    if text not in (*SOURCES, NO_TEXT):
        raise ConfigError(f"--text {text}: write one of {', '.join(SOURCES)}, or {NO_TEXT}")
    if text != NO_TEXT and text not in columns:
        raise DataError(f"--text {text}: {file} has no such column; it has {', '.join(columns)}")
    return [text] if text != NO_TEXT else []


def _splits(file: Path, rows: Sequence[tuple[int, Mapping[str, str]]]) -> dict[str, str]:
    """A split for each group of a manifest that names none: 70, 15 and 15 % of the samples."""
    sides = split_groups(count_by_group((row.get("group") or row["id"], ()) for _, row in rows))
    if len(set(sides.values())) < len(SPLITS):
        raise DataError(f"{file} has no column 'split' and too few groups ({len(sides)}) to make one; add the column")
    return sides


class _Reader:
    """Rows to entries, one after the other; what they may not share is remembered."""

    def __init__(
        self,
        file: Path,
        tasks: Mapping[str, TaskSchema],
        splits: Mapping[str, str],
        further: Mapping[str, pa.DataType],
        *,
        sources: Sequence[str],
        allow_outside: bool,
    ) -> None:
        self._file, self._tasks, self._splits, self._further = file, tasks, splits, further
        self._sources, self._allow_outside = sources, allow_outside
        self._lines: dict[str, int] = {}  # of each id
        self._sides: dict[str, tuple[str, int]] = {}  # split and line of each group

    def read(self, line: int, row: Mapping[str, str]) -> Entry:
        """Errors: DataError where the row is no sample, or none beside those before it."""
        where = f"{self._file}, line {line}"
        entry = self._entry(where, row)
        if entry.id in self._lines:
            raise DataError(f"{where}: the id '{entry.id}' stands in line {self._lines[entry.id]} too; ids are unique")
        split, first = self._sides.get(entry.group, (entry.split, line))
        if split != entry.split:
            raise DataError(
                f"{where}: group '{entry.group}' is in {entry.split}, in line {first} it is in {split}; what "
                "shares a source stays on one side. Change the split, or leave that column out to have groups divided"
            )
        self._lines[entry.id], self._sides[entry.group] = line, (split, first)
        return entry

    def _entry(self, where: str, row: Mapping[str, str]) -> Entry:
        name = row["id"]
        if not name:
            raise DataError(f"{where}: the id is empty")
        where = f"{where}, sample '{name}'"
        _check_unicode(where, row)
        group = row.get("group") or name
        split = row["split"] if "split" in row else self._splits[group]
        if split not in SPLITS:
            raise DataError(f"{where}: split '{split}'; write one of {', '.join(SPLITS)}")
        media = {
            column: path_inside(self._file, row[column], f"{where}, column '{column}'", allow_outside=self._allow_outside)
            for column in (*MEDIA, *TEXTS)
            if row.get(column) and (column in MEDIA or column in self._sources)
        }
        if sum(bool(row.get(column)) for column in self._sources) > 1:
            raise DataError(
                f"{where}: its text stands in more than one of the columns {', '.join(SOURCES)}; keep one, or say which by "
                "--text"
            )
        labels = {}
        for task, schema in self._tasks.items():
            if row[task].strip():
                try:
                    labels[task] = parse_label(schema, row[task].strip())
                except ValueError as error:
                    raise DataError(f"{where}, column '{task}': {error}") from None
        further = further_values(row, self._further)
        text = row.get("text", "") if "text" in self._sources else ""
        return Entry(name, split, group, text, media, _span(where, row), labels, further)


def _check_unicode(where: str, row: Mapping[str, str]) -> None:
    """Errors: DataError where a cell holds what no file of texts may: one half of a pair of UTF-16, as "\\ud83d" in JSON."""
    for column, cell in row.items():
        try:
            cell.encode()
        except UnicodeEncodeError as error:
            if column not in (*MEDIA, *TEXTS):  # names of files may be anything
                raise DataError(
                    f"{where}, column '{column}': {cell[error.start]!a} is half a character, as where a text was cut; "
                    "write it whole, or leave it out"
                ) from None


def _span(where: str, row: Mapping[str, str]) -> Span:
    """The columns start and end; empty: from the file's beginning, to its end."""
    times: dict[str, Fraction | None] = {}
    for column in SPAN:
        cell = row.get(column, "").strip()
        if cell and not (is_number(cell) and 0 <= float(cell) < math.inf):
            raise DataError(f"{where}, column '{column}': '{cell}' is not a time; write seconds, 0 or more")
        times[column] = Fraction(str(float(cell))) if cell else None
    start, end = times["start"] or Fraction(0), times["end"]
    if end is not None and end <= start:
        raise DataError(f"{where}: the clip ends at {float(end):g} s and starts at {float(start):g} s")
    return Span(start, end)
