"""A run's predictions of a split by stream and by group, from its file of predictions alone."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape

from mmtrain.analysis.output import write_json
from mmtrain.engine.run_folder import RunFolder
from mmtrain.evaluation.breakdown import Breakdown, Part, break_down
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.evaluation.table import TextTable, digits

_WORST = 10


def break_down_run(folder: Path, name: str, *, console: Console | None = None) -> list[Breakdown]:
    """Write evaluation/<name>-groups.json from predictions/<name>.parquet; `console`: where the worst groups are printed.

    Errors: DataError where there are no such predictions, or one is NaN.
    """
    found = [break_down(item) for item in read_predictions(RunFolder(folder).predictions(name)).values()]
    tasks = {
        item.task: {"metric": item.metric, "streams": _plain(item.streams), "groups": _plain(item.groups)} for item in found
    }
    file = write_json(folder, f"{name}-groups", {"split": name, "tasks": tasks})
    if console is not None:
        for item in found:
            console.print(_table(item).rich())
        console.print(f"written: {file}", highlight=False, soft_wrap=True, markup=False)
    return found


def _plain(parts: Sequence[Part]) -> list[dict[str, object]]:
    return [asdict(part) for part in parts]


def _table(item: Breakdown) -> TextTable:
    shown = (*item.streams, *item.groups[:_WORST])
    title = (
        f"{item.task}: streams, and the {min(_WORST, len(item.groups))} of {len(item.groups)} groups with the highest loss"
    )
    drawn = tuple(
        (
            escape(part.stream),
            "all" if part.group is None else escape(part.group),
            str(part.num_samples),
            "inf" if np.isinf(part.loss) else digits(part.loss),
            digits(part.loss_std),
            digits(part.value),
        )
        for part in shown
    )
    return TextTable(title, ("stream", "group", "samples", "loss", "deviation", item.metric), drawn, 2)
