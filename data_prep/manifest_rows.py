"""The rows of a manifest as strings, whichever form it has: CSV, JSONL, Parquet, or a folder of media."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.media.container import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from data_prep.texts import SUBTITLE_SUFFIXES
from mmtrain.data.schema import SPLITS
from mmtrain.errors import DataError

Row = tuple[int, dict[str, str]]  # number of the line, and cells by column

NONE_OF_THEM = "-"
PICTURE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_COLUMN_OF = (
    ("video", VIDEO_SUFFIXES),
    ("audio", AUDIO_SUFFIXES),
    ("image", PICTURE_SUFFIXES),
    ("text_file", frozenset({".txt"})),
    ("subtitles", SUBTITLE_SUFFIXES),
)


def read_rows(file: Path) -> tuple[list[Row], str]:
    """Line number and cells of each sample, and the sha256 of the manifest; all samples have the same columns.

    Errors: DataError where it cannot be read or is not of the form that its name says.
    """
    if file.is_dir():
        rows = list(_folder(file))
        listing = json.dumps([cells for _, cells in rows], ensure_ascii=False)
        return rows, hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    if file.suffix == ".parquet":
        return list(_parquet(file, content)), hashlib.sha256(content).hexdigest()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    forms = {".jsonl": _jsonl, ".json": _json}
    rows = list(forms.get(file.suffix, _csv)(file, text))
    return rows, hashlib.sha256(text.encode()).hexdigest()


def _csv(file: Path, content: str) -> Iterator[Row]:
    csv.field_size_limit(max(len(content), csv.field_size_limit()))  # a text may be as long as it is
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


def _jsonl(file: Path, content: str) -> Iterator[Row]:
    yield from _alike(
        file, [(number, _object(file, number, line)) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    )


def _json(file: Path, content: str) -> Iterator[Row]:
    """A list of objects, or an object of objects by id, numbered from 1."""
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON ({error})") from None
    if isinstance(rows, dict):
        rows = [{"id": key, **row} if isinstance(row, dict) else row for key, row in rows.items()]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{file} is neither a list of objects nor an object of objects by id")
    yield from _alike(file, list(enumerate(rows, 1)))


def _alike(file: Path, objects: list[tuple[int, dict[str, Any]]]) -> Iterator[Row]:
    columns = dict.fromkeys(key for _, cells in objects for key in cells)
    for number, cells in objects:
        try:
            yield number, {key: _cell(cells.get(key)) for key in columns}
        except TypeError as error:
            raise DataError(f"{file}, line {number}: {error}") from None


def _object(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        cells = json.loads(line)
    except (ValueError, RecursionError):
        cells = None
    if not isinstance(cells, dict):
        raise DataError(f"{file}, line {number}: not a JSON object")
    return cells


def _parquet(file: Path, content: bytes) -> Iterator[Row]:
    """The rows are numbered from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not Parquet ({str(error).splitlines()[0]})") from None
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise DataError(f"{file}: the column '{name}' stands there twice; give each a name of its own")
    rows = (cells for batch in table.to_batches() for cells in batch.to_pylist())
    for number, cells in enumerate(rows, start=1):
        try:
            yield number, {key: _cell(value) for key, value in cells.items()}
        except TypeError as error:
            raise DataError(f"{file}, row {number}: {error}") from None


def _cell(value: Any) -> str:
    """A value as a CSV cell would hold it. Errors: TypeError for what none can hold."""
    if isinstance(value, list):
        return "|".join(map(str, value)) or NONE_OF_THEM
    if not isinstance(value, str | int | float | None):
        raise TypeError(f"a cell is neither text nor number nor a list of them but {type(value).__name__}: {value}")
    return "" if value is None else str(int(value) if isinstance(value, bool) else value)


def _folder(folder: Path) -> Iterator[Row]:
    """[split/][label/]name.suffix: files of one folder that differ by their suffix alone are one sample, numbered from 1.

    The id is the path without the suffix; a first folder train, val or test is the split, a further one the label.
    """
    samples: dict[str, dict[str, str]] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        path = file.relative_to(folder)
        column = next((name for name, suffixes in _COLUMN_OF if file.suffix.lower() in suffixes), None)
        if column is None or any(part.startswith(".") for part in path.parts):
            continue
        cells = samples.setdefault(path.with_suffix("").as_posix(), {})
        if column in cells:
            raise DataError(f"{folder}: '{cells[column]}' and '{path.as_posix()}' would both be the {column} of one sample")
        cells[column] = path.as_posix()
    for name, cells in samples.items():
        parents = name.split("/")[:-1]
        if parents and parents[0] in SPLITS:
            cells["split"] = parents.pop(0)
        if len(parents) > 1:
            raise DataError(f"{folder}: '{name}' lies too deep; a folder is laid out as [split/][label/]name.suffix")
        if parents:
            cells["label"] = parents[0]
    columns = dict.fromkeys(key for cells in samples.values() for key in cells)
    for number, (name, cells) in enumerate(samples.items(), start=1):
        yield number, {"id": name, **{key: cells.get(key, "") for key in columns}}
