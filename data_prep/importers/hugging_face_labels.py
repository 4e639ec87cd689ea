"""Columns of a Hugging Face data set as labels: `--label task=kind:column`, with the classes that the data set names."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from mmtrain.data.sample_row import Label
from mmtrain.data.schema import TaskKind, TaskSchema
from mmtrain.errors import ConfigError

_NONE = -1  # what the field writes where a test set keeps its labels to itself


@dataclass(frozen=True)
class Question:
    """One task and the column that answers it. `numbers`: whether the column holds places among `classes`, not names."""

    task: str
    column: str
    schema: TaskSchema
    numbers: bool

    def label(self, value: Any) -> Label:
        """A cell as a label; None where it is null, or -1 of a class. Errors: ValueError where it is neither."""
        if self.schema.kind != "regression":
            value = _class(value)
        if value is None or (self.schema.kind in ("binary", "multiclass") and self.numbers and value == _NONE):
            return None
        if self.schema.kind == "regression":
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise self._wrong(value, "a finite number")
            return float(value)
        if self.schema.kind == "multilabel":
            if not isinstance(value, list):
                raise self._wrong(value, "a list of classes")
            places = {self._place(_class(entry)) for entry in value}
            return [int(place in places) for place in range(len(self.schema.classes))]
        return self._place(value)

    def _place(self, value: Any) -> int:
        classes: Sequence[str] = self.schema.classes or ("0", "1")
        if self.numbers and isinstance(value, bool | int) and 0 <= value < len(classes):
            return int(value)
        if not self.numbers and value is not None and str(value) in classes:
            return classes.index(str(value))
        words = f"a number from 0 to {len(classes) - 1}" if self.numbers else f"one of {', '.join(classes)}"
        raise self._wrong(value, words)

    def _wrong(self, value: Any, expected: str) -> ValueError:
        return ValueError(f"column '{self.column}' is {str(value)[:40]!r}, {expected} was expected")


def _class(value: Any) -> Any:
    """A cell that names a class; whole numbers beside empty cells are often kept as 1.0 and NaN."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


def read_label_option(task: str, value: str) -> tuple[TaskKind, str]:
    """`kind:column` of `--label task=kind:column`."""
    written, colon, column = value.partition(":")
    for kind in get_args(TaskKind):
        if written == kind and colon and column:
            known: TaskKind = kind
            return known, column
    raise ConfigError(f"--label {task}={value}: write {task}=kind:column; kinds: {', '.join(get_args(TaskKind))}")


def make_question(task: str, kind: TaskKind, column: str, *, names: Sequence[str], values: Iterable[Any]) -> Question:
    """A task with its classes: `names` of the data set, else of the column's `values` (read only where they are needed)."""
    classes, numbers = tuple(names), True
    if kind == "regression":
        classes = ()
    elif not classes:
        found = {_class(entry) for value in values for entry in _single(value, f"--label {task}={kind}:{column}")} - {None}
        numbers = all(isinstance(entry, int) for entry in found)
        top = max((int(entry) for entry in found), default=-1) if numbers else 0
        classes = tuple(map(str, range(top + 1))) if numbers else tuple(sorted(map(str, found)))
        if kind == "binary" and numbers:
            classes = ()
    try:
        schema = TaskSchema.model_validate({"kind": kind, "classes": classes})
    except ValidationError as error:
        raise ConfigError(f"--label {task}={kind}:{column}: {error.errors()[0]['msg']}") from None
    return Question(task, column, schema, numbers)


def _single(value: Any, option: str) -> list[Any]:
    """The entries of a cell. Errors: ConfigError for those that can name no class."""
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if isinstance(entry, list | dict):
            raise ConfigError(f"{option}: the column holds {str(entry)[:40]}, numbers or names of classes were expected")
    return entries


def read_labels(questions: Sequence[Question], row: Mapping[str, Any]) -> dict[str, Label]:
    """All labels of a row."""
    return {question.task: question.label(row[question.column]) for question in questions}
