"""A Hugging Face data set, from a folder of Arrow or Parquet files or by its name on the hub, to a store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_prep.failures import Failure
from data_prep.importers.arrays import Rows
from data_prep.importers.hugging_face_files import Part, Row, class_names, find_parts
from data_prep.importers.hugging_face_labels import Question, make_question, read_label_option, read_labels
from data_prep.importers.target import Outcome, Target
from data_prep.importers.writing import Sample, write_store
from mmtrain.data.schema import FeatureSpec
from mmtrain.errors import ConfigError, DataError


@dataclass(frozen=True)
class Columns:
    """Which column of the data set is what; without `id` a sample is called by its split and number."""

    text: str | None = None
    second_text: str | None = None
    id: str | None = None
    group: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)  # task -> kind:column
    modalities: Mapping[str, str] = field(default_factory=dict)  # modality -> a column of lists of rows


def import_hugging_face(
    source: str, *, columns: Columns, splits: Mapping[str, str], target: Target, revision: str | None = None
) -> Outcome:
    """Write the store of a folder (`save_to_disk`, Parquet, Arrow) or of a data set on the hub. No code of it is run.

    Errors: ConfigError for a column or split that is not there; DataError for a file that cannot be read; MediaError as of
    `write_store`.
    """
    target.check()
    parts = find_parts(source, splits, revision=revision)
    schema = parts[0].schema()
    options = {task: read_label_option(task, value) for task, value in columns.labels.items()}
    plain = (columns.text, columns.second_text, columns.id, columns.group)
    names = dict.fromkeys(name for name in (*plain, *columns.modalities.values()) if name is not None)
    names |= dict.fromkeys(column for _, column in options.values())
    if not names:
        raise ConfigError(f"{source}: say what to import, such as --text COLUMN; its columns: {', '.join(schema.names)}")
    for name in names:
        if name not in schema.names:
            raise ConfigError(f"{source} has no column '{name}'; it has {', '.join(schema.names)}")
    questions = [
        make_question(task, kind, column, names=class_names(schema, column), values=_values(parts, column))
        for task, (kind, column) in options.items()
    ]
    specs = {modality: FeatureSpec(dim=_width(parts, column)) for modality, column in columns.modalities.items()}
    return write_store(
        target,
        _samples(parts, list(names), columns, questions),
        total=sum(1 for part in parts for _ in part.rows([next(iter(names))])),
        name=source.rstrip("/").rpartition("/")[2],
        modalities=specs,
        tasks={question.task: question.schema for question in questions},
        columns={"second_text": schema.field(columns.second_text).type} if columns.second_text else {},
        provenance={"made_by": "python -m data_prep import hf", "source": source, "revision": revision},
    )


def _values(parts: Sequence[Part], column: str) -> Iterator[Any]:
    for part in parts:
        yield from (row[column] for _, _, row in part.rows([column]))


def _width(parts: Sequence[Part], column: str) -> int:
    """D of the first rows in a column."""
    for value in _values(parts, column):
        if value:
            try:
                return int(_rows(column, value).shape[1])
            except ValueError:
                continue
    raise DataError(f"column '{column}' has no rows in any sample: lists of rows were expected, each a list of numbers")


def _samples(
    parts: Sequence[Part], names: Sequence[str], columns: Columns, questions: Sequence[Question]
) -> Iterator[Sample | Failure]:
    for part in parts:
        for count, (file, number, row) in enumerate(part.rows(names)):
            sample = f"{part.split}-{count}" if columns.id is None else row[columns.id]
            try:
                if sample in (None, ""):
                    raise ValueError(f"column '{columns.id}' is empty")
                yield _sample(str(sample), part.split, row, columns, questions)
            except ValueError as error:
                yield Failure(str(sample), "", str(file), f"row {number}: {error}")


def _sample(sample: str, split: str, row: Row, columns: Columns, questions: Sequence[Question]) -> Sample:
    features = {key: _rows(column, row[column]) for key, column in columns.modalities.items() if row[column]}
    group = sample if columns.group is None or row[columns.group] in (None, "") else str(row[columns.group])
    second = {"second_text": _text(columns.second_text, row)} if columns.second_text else {}
    return Sample(sample, split, group, _text(columns.text, row), features, read_labels(questions, row), second)


def _text(column: str | None, row: Row) -> str:
    value = None if column is None else row[column]
    if value is not None and not isinstance(value, str):
        raise ValueError(f"column '{column}' is {str(value)[:40]!r}, a text was expected")
    return value or ""


def _rows(column: str, value: Any) -> Rows:
    """A cell [[number, ...], ...] or [number, ...] as rows [T, D]."""
    try:
        rows = np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError):
        raise ValueError(f"column '{column}' holds no rows of numbers of one width") from None
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2:
        raise ValueError(f"column '{column}' has rows of shape {rows.shape}, [T, D] was expected")
    return rows
