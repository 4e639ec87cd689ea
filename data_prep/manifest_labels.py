"""Labels in the cells of a manifest: what a column's classes are, and what a cell says."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from data_prep.columns import is_number
from data_prep.manifest_rows import NONE_OF_THEM
from mmtrain.data.schema import TaskKind, TaskSchema
from mmtrain.errors import DataError

_EMPTY = "an empty cell is a missing label"


def declare_task(file: Path, task: str, kind: str, cells: Sequence[str]) -> TaskSchema:
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


def parse_label(task: TaskSchema, cell: str) -> Any:
    """The label that a cell holds. Errors: ValueError saying what was expected."""
    if task.kind == "regression":
        number = float(cell) if is_number(cell) else math.nan
        if not math.isfinite(number):
            raise ValueError(f"'{cell}' is not a finite number; {_EMPTY}")
        return number
    if task.kind == "multilabel":
        names = [] if cell == NONE_OF_THEM else [part.strip() for part in cell.split("|")]
        if not set(names) <= set(task.classes):
            raise ValueError(
                f"'{cell}': write names of {', '.join(task.classes)} with | between, or - for none of them; {_EMPTY}"
            )
        return [int(name in names) for name in task.classes]
    names = list(task.classes) or ["0", "1"]
    if cell in names:
        return names.index(cell)
    are_numbers = any(name.isdecimal() for name in names)  # then a number is a name, never a place in the list
    if cell.isdecimal() and int(cell) < len(names) and not are_numbers:
        return int(cell)
    raise ValueError(f"'{cell}' is not one of {', '.join(names)}; {_EMPTY}")
