"""Every metric of a split under its `split/task/metric` name."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmtrain.data.schema import TaskSchema
from mmtrain.evaluation.geometry import geometry_names
from mmtrain.evaluation.metrics import loss_statistics, metrics
from mmtrain.evaluation.predictions import Predictions, TaskPredictions, no_predictions, with_losses
from mmtrain.evaluation.pretext_metrics import pretext_metrics, primary_metric
from mmtrain.evaluation.retrieval import directions, retrieval_names
from mmtrain.evaluation.table import GapRow
from mmtrain.objectives.pretext.protocol import PretextLoss


def split_metrics(split: str, predictions: Sequence[Predictions]) -> dict[str, float]:
    """`split/task/metric`, `split/task@stream/metric` where a task has several streams, and `split/loss`.

    `split/loss` is the mean over tasks of their mean per-sample loss.
    """
    values: dict[str, float] = {}
    for item in predictions:
        values |= _named(f"{split}/{item.task}", item)
        streams = np.unique(item.streams)
        for stream in streams if len(streams) > 1 else ():
            values |= _named(f"{split}/{item.task}@{stream}", item.subset(item.streams == stream))
    means = [values[f"{split}/{item.task}/loss"] for item in predictions if len(with_losses(item))]
    values[f"{split}/loss"] = float(np.mean(means)) if means else float("nan")
    return values


def _named(prefix: str, item: Predictions) -> dict[str, float]:
    found = metrics(item) if isinstance(item, TaskPredictions) else pretext_metrics(item)
    return {f"{prefix}/{name}": value for name, value in (*loss_statistics(with_losses(item).losses), *found)}


def known_metrics(
    tasks: Mapping[str, TaskSchema],
    pretext: Mapping[str, PretextLoss] | None = None,
    conventions: Mapping[str, str] | None = None,
) -> list[str]:
    """The names below `split/` that an evaluation of these tasks gives (all streams of a task together)."""
    names = ["loss"]
    for task, schema in tasks.items():
        empty = no_predictions(schema.kind, classes=schema.classes, convention=(conventions or {}).get(task))
        names += [f"{task}/{name}" for name, _ in (*loss_statistics(empty.losses), *metrics(empty))]
    of_losses = [name for name, _ in loss_statistics(np.zeros(0))]
    for task, loss in (pretext or {}).items():
        retrieved = retrieval_names([name for name, _, _ in directions(loss.pairs)])
        modalities = dict.fromkeys(modality for pair in loss.pairs for modality in pair)
        lie = geometry_names(["_".join(pair) for pair in loss.pairs], tuple(modalities))
        names += [f"{task}/{name}" for name in (*of_losses, *retrieved, *lie, *loss.scores)]
    return names


def gap_rows(values: Mapping[str, float], predictions: Sequence[Predictions]) -> list[GapRow]:
    """Training beside validation for every task of `predictions`, from the metrics of both splits."""
    rows = []
    for item in predictions:
        metric = primary_metric(item)
        train, val = (
            [values.get(f"{split}/{item.task}/{name}", float("nan")) for name in ("loss", metric)]
            for split in ("train", "val")
        )
        rows.append(
            GapRow(
                task=item.task,
                metric=metric,
                train_loss=train[0],
                val_loss=val[0],
                train_value=train[1],
                val_value=val[1],
            )
        )
    return rows
