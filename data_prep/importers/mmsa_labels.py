"""The labels in a pickle of MMSA: which questions there are, of which kind, and each sample's answer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtrain.data.schema import TaskSchema
from mmtrain.errors import DataError

_KINDS = {"regression_labels": "sentiment", "classification_labels": "polarity"}  # field -> task
_VIEWS = ("M", "T", "A", "V")  # all modalities together; the text, audio or video alone


@dataclass(frozen=True)
class Question:
    """One field of labels and the task that it becomes."""

    source: str
    task: str
    schema: TaskSchema
    places: Mapping[float, int] = field(default_factory=dict)  # the number of a class -> its place among the classes

    def label(self, fields: Mapping[str, Any], index: int) -> int | float | None:
        """A sample's answer; None where it is NaN. Errors: ValueError where it is no number."""
        number = _number(self.source, fields[self.source][index])
        if math.isnan(number):
            return None
        return self.places[number] if self.places else number


def check_length(file: Path, split: str, fields: Mapping[str, Any], name: str) -> None:
    """Errors: DataError where a field has no entry for each id."""
    found, expected = (len(value) if hasattr(value, "__len__") else 0 for value in (fields[name], fields["id"]))
    if found != expected:
        raise DataError(f"{file}, split '{split}': '{name}' has {found} samples, 'id' has {expected}")


def find_questions(file: Path, content: Mapping[str, Mapping[str, Any]]) -> tuple[Question, ...]:
    """`sentiment` and `polarity`, and of CH-SIMS those of one modality, `sentiment_T` and so on.

    A class is called what `annotations` calls its number, where it does so without contradiction, else by the number.

    Errors: DataError where a field has another length than `id`, or its classes cannot be told.
    """
    questions = []
    for kind, task in _KINDS.items():
        for view in ("", *(f"_{view}" for view in _VIEWS)):
            name = kind + view
            splits = {split: fields for split, fields in content.items() if name in fields}
            if not splits or (view == "_M" and any(kind in fields for fields in content.values())):
                continue
            for split, fields in splits.items():
                check_length(file, split, fields, name)
            target = task if view == "_M" else task + view
            if kind == "regression_labels":
                questions.append(Question(name, target, TaskSchema(kind="regression")))
            else:
                questions.append(_classes(file, splits, name, target))
    return tuple(questions)


def _classes(file: Path, splits: Mapping[str, Mapping[str, Any]], name: str, task: str) -> Question:
    called: dict[float, set[str]] = {}
    for fields in splits.values():
        annotations = fields.get("annotations")
        for index, value in enumerate(fields[name]):
            try:
                number = _number(name, value)
            except ValueError as error:
                raise DataError(f"{file}, sample '{fields['id'][index]}': {error}") from None
            if not math.isnan(number):
                names = called.setdefault(number, set())
                if annotations is not None and len(annotations) == len(fields["id"]) and not name[-2:].startswith("_"):
                    names.add(str(annotations[index]))
    if len(called) < 2 or len(called) > 100:
        raise DataError(f"{file}: '{name}' has {len(called)} different numbers; 2 to 100 classes were expected")
    numbers = sorted(called)
    words = [next(iter(called[number])) if len(called[number]) == 1 else "" for number in numbers]
    named = all(words) and len(set(words)) == len(words)
    classes = words if named else [f"{number:g}" for number in numbers]
    schema = TaskSchema(kind="multiclass", classes=tuple(classes))
    return Question(name, task, schema, {number: place for place, number in enumerate(numbers)})


def _number(name: str, value: Any) -> float:
    """A label as MMSA writes it: a number, or an array of one."""
    try:
        number = float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError):
        raise ValueError(f"'{name}' is {str(value)[:40]!r}, a number was expected") from None
    if math.isinf(number):
        raise ValueError(f"'{name}' is {number}, a finite number was expected")
    return number
