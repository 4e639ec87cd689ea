"""Which class was taken for which."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.report.heatmap import heatmap
from mmtrain.report.parts import Chart, DataTable, Missing, Part, Section
from mmtrain.report.run_record import RunRecord

_MOST_CLASSES = 40


def confusion_section(record: RunRecord) -> Section:
    """Every task with classes, split by split."""
    parts: list[Part] = []
    for split, tasks in record.predictions.items():
        for item in tasks.values():
            if isinstance(item, TaskPredictions) and len(item):
                parts += _of_task(item, split)
    if parts:
        parts.insert(0, "Rows are labels, columns predictions; a cell is shaded by its share of the row.")
    elif record.predictions:
        parts.append("No task of this run has classes.")
    else:
        parts.append(Missing("No predictions yet", record.command("evaluate --split val")))
    return Section("Confusion", parts)


def _of_task(item: TaskPredictions, split: str) -> Iterator[Part]:
    if item.kind == "binary":
        yield _matrix(item, split, item.is_called.astype(np.int64), names=["no", "yes"], note=f" {_rule(item)}")
    elif item.kind == "multiclass":
        yield _matrix(item, split, item.probabilities.argmax(axis=1), names=list(item.classes))
    elif item.kind == "multilabel":
        yield _label_table(item, split)


def _matrix(item: TaskPredictions, split: str, chosen: npt.NDArray[np.int64], *, names: list[str], note: str = "") -> Chart:
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (item.labels.astype(np.int64), chosen), 1)
    right = int(np.trace(counts))
    if len(names) > _MOST_CLASSES:
        kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:_MOST_CLASSES])
        counts, note = counts[np.ix_(kept, kept)], f"{note} The {_MOST_CLASSES} classes with most labels of {len(names)}."
        names = [names[number] for number in kept]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return heatmap(
        f"{item.task}, {split}",
        f"{right:,} of {len(item):,} are right ({right / len(item):.1%}).{note}",
        rows=names,
        columns=names,
        shades=shares.tolist(),
        texts=[[f"{count:,}" for count in row] for row in counts.tolist()],
        row_title="label",
        column_title="prediction",
        is_wide=len(names) > 14,
    )


def _label_table(item: TaskPredictions, split: str) -> DataTable:
    """Multilabel: each label is a decision of its own."""
    chosen, labels = item.is_called, item.labels > 0
    rows = [
        (name, int((yes & true).sum()), int((yes & ~true).sum()), int((~yes & true).sum()), int((~yes & ~true).sum()))
        for name, yes, true in zip(item.classes, chosen.T, labels.T, strict=True)
    ]
    header = ("label", "true positive", "false positive", "false negative", "true negative")
    return DataTable(title=f"{item.task}, {split}", header=header, rows=rows, note=_rule(item))


def _rule(item: TaskPredictions) -> str:
    """When a task says yes."""
    chosen = "" if item.threshold == 0.5 else ", as validation chose it"
    return f"Yes: a probability of the model's own above {item.cut:.3g}{chosen}."
