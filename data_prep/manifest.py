"""Reading a manifest: which samples, which media, which labels; everything is checked before anything is extracted."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
from pydantic import Field, ValidationError

from data_prep.columns import further_columns, further_values, is_number
from data_prep.foreign_tables import FOREIGN_TABLES, read_as_lines
from data_prep.split import count_by_group, split_groups
from mmtrain.data.schema import OWN_COLUMNS, SPLITS, TaskKind, TaskSchema
from mmtrain.data.writer import Label
from mmtrain.errors import DataError
from mmtrain.section import Section

MEDIA = ("audio", "video", "image")
NONE_OF_THEM = "-"


@dataclass(frozen=True)
class Entry:
    """One row: a sample to be."""

    id: str
    split: str
    group: str
    text: str
    media: Mapping[str, Path]  # modality -> file; left out where the cell is empty
    labels: Mapping[str, Label]  # task -> label; left out where the cell is empty
    further: Mapping[str, float | str | None]  # column -> value; None where the cell is empty


class Sidecar(Section):
    """What `<manifest>.json` says beside `<manifest>.csv`."""

    name: str = ""
    licence: str = ""
    tasks: dict[str, TaskSchema] = Field(default_factory=dict)


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


def read_manifest(file: Path, *, tasks: Mapping[str, str] | None = None) -> Manifest:
    """Read a CSV (or JSONL, JSON or Parquet) manifest. `tasks`: column -> kind, beside or instead of the sidecar's.

    Errors: DataError naming the line and column of whatever is not as it should be.
    """
    content = _read(file)
    rows = list(_rows(file, content))
    if not rows:
        raise DataError(f"{file} has no samples")
    columns = rows[0][1].keys()
    if "id" not in columns:
        raise DataError(f"{file} has no column 'id'; it has {', '.join(columns)}")
    sidecar = _sidecar(file)
    schemas = dict(sidecar.tasks)
    for task, kind in (tasks or {}).items():
        schemas[task] = _declare(file, task, kind, [row.get(task, "") for _, row in rows])
    for task in schemas:
        if task not in columns:
            raise DataError(f"{file} has no column '{task}' for the task of that name; it has {', '.join(columns)}")
    splits = _splits(file, rows) if "split" not in columns else {}
    further = further_columns([row for _, row in rows], {*OWN_COLUMNS, *MEDIA, *schemas})
    entries, seen, sides = [], dict[str, int](), dict[str, tuple[str, int]]()
    for line, row in rows:
        entry = _entry(file, line, row, schemas, splits, further=further)
        if entry.id in seen:
            raise DataError(f"{file}, line {line}: the id '{entry.id}' stands in line {seen[entry.id]} too; ids are unique")
        seen[entry.id] = line
        split, first = sides.setdefault(entry.group, (entry.split, line))
        if split != entry.split:
            raise DataError(
                f"{file}, line {line}: group '{entry.group}' is in {entry.split}, in line {first} it is in {split}; what "
                "shares a source stays on one side. Change the split, or leave that column out to have groups divided"
            )
        entries.append(entry)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Manifest(file, digest, sidecar.name or file.stem, sidecar.licence, schemas, further, entries)


def _read(file: Path) -> str:
    if file.suffix in FOREIGN_TABLES:
        return read_as_lines(file)
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _rows(file: Path, content: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each sample, as strings; all samples have the same columns."""
    if file.suffix in (".jsonl", *FOREIGN_TABLES):
        objects = [
            (number, _object(file, number, line)) for number, line in enumerate(content.split("\n"), 1) if line.strip()
        ]
        columns = dict.fromkeys(key for _, cells in objects for key in cells)
        yield from ((number, {key: _cell(cells.get(key)) for key in columns}) for number, cells in objects)
        return
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    try:
        names = reader.fieldnames or ()
        for name in names:
            if names.count(name) > 1:
                raise DataError(f"{file}, line 1: the column '{name}' stands there twice; give each a name of its own")
        for row in reader:
            if None in row or None in row.values():
                columns_named = len(reader.fieldnames or ())
                raise DataError(f"{file}, line {reader.line_num}: not as many cells as the {columns_named} columns")
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: not CSV ({error})") from None


def _object(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        cells = json.loads(line)
    except (ValueError, RecursionError):
        cells = None
    if not isinstance(cells, dict):
        raise DataError(f"{file}, line {number}: not a JSON object")
    return cells


def _cell(value: Any) -> str:
    """A JSON value as a CSV cell would hold it."""
    if isinstance(value, list):
        return "|".join(map(str, value)) or NONE_OF_THEM
    return "" if value is None else str(int(value) if isinstance(value, bool) else value)


def _sidecar(manifest: Path) -> Sidecar:
    file = manifest.with_suffix(".json")
    if file == manifest or not file.is_file():
        return Sidecar()
    try:
        return Sidecar.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{file}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from None


def _declare(file: Path, task: str, kind: str, cells: Sequence[str]) -> TaskSchema:
    """A task from a `--task name=kind` flag; its classes are the sorted values of its column."""
    if kind not in get_args(TaskKind):
        raise DataError(f"--task {task}={kind}: unknown kind; write one of {', '.join(get_args(TaskKind))}")
    parts = (
        (cells if kind != "multilabel" else [part for cell in cells for part in cell.split("|")]) if "multi" in kind else ()
    )
    classes = tuple(sorted({part.strip() for part in parts} - {"", NONE_OF_THEM}))
    try:
        return TaskSchema.model_validate({"kind": kind, "classes": classes})
    except ValidationError as error:
        raise DataError(f"{file}, column '{task}': {error.errors()[0]['msg']}") from None


def _splits(file: Path, rows: Sequence[tuple[int, Mapping[str, str]]]) -> dict[str, str]:
    """A split for each group of a manifest that names none: 70, 15 and 15 % of the samples."""
    sides = split_groups(count_by_group((row.get("group") or row["id"], ()) for _, row in rows))
    if len(set(sides.values())) < len(SPLITS):
        raise DataError(f"{file} has no column 'split' and too few groups ({len(sides)}) to make one; add the column")
    return sides


def _entry(
    file: Path,
    line: int,
    row: Mapping[str, str],
    tasks: Mapping[str, TaskSchema],
    splits: Mapping[str, str],
    *,
    further: Mapping[str, pa.DataType],
) -> Entry:
    name = row["id"]
    if not name:
        raise DataError(f"{file}, line {line}: the id is empty")
    group = row.get("group") or name
    split = row["split"] if "split" in row else splits[group]
    if split not in SPLITS:
        raise DataError(f"{file}, line {line}, sample '{name}': split '{split}'; write one of {', '.join(SPLITS)}")
    where = f"{file}, line {line}, sample '{name}', column"
    media = {modality: _inside(file, row[modality], f"{where} '{modality}'") for modality in MEDIA if row.get(modality)}
    labels = {}
    for task, schema in tasks.items():
        if row[task].strip():
            try:
                labels[task] = parse_label(schema, row[task].strip())
            except ValueError as error:
                raise DataError(f"{file}, line {line}, sample '{name}', column '{task}': {error}") from None
    return Entry(name, split, group, row.get("text", ""), media, labels, further_values(row, further))


def _inside(file: Path, cell: str, where: str) -> Path:
    """The media file that a cell names, refused where it leaves the manifest's folder, also by a symbolic link."""
    folder = file.parent.resolve()
    try:
        target = (folder / cell).resolve()
        if target.resolve() != target:
            raise ValueError("a link in it leads to itself")  # and what stands behind it was not resolved
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: {cell!r} is not a path ({error})") from None
    if not target.is_relative_to(folder):
        raise DataError(f"{where}: '{cell}' leads out of {folder}; move the file into it")
    return target


def parse_label(task: TaskSchema, cell: str) -> Any:
    """The label that a cell holds. Errors: ValueError saying what was expected."""
    if task.kind == "regression":
        number = float(cell) if is_number(cell) else math.nan
        if not math.isfinite(number):
            raise ValueError(f"'{cell}' is not a finite number")
        return number
    if task.kind == "multilabel":
        names = [] if cell == NONE_OF_THEM else [part.strip() for part in cell.split("|")]
        if not set(names) <= set(task.classes):
            raise ValueError(f"'{cell}': write names of {', '.join(task.classes)} with | between, or - for none of them")
        return [int(name in names) for name in task.classes]
    names = list(task.classes) or ["0", "1"]
    if cell in names:
        return names.index(cell)
    are_numbers = any(name.isdecimal() for name in names)  # then a number is a name, never a place in the list
    if cell.isdecimal() and int(cell) < len(names) and not are_numbers:
        return int(cell)
    raise ValueError(f"'{cell}' is not one of {', '.join(names)}")
