"""The metrics of pretext tasks, and which of a task's metrics stands for it in tables."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from mmtrain.evaluation.geometry import geometry_names, geometry_statistic
from mmtrain.evaluation.predictions import Predictions, PretextPredictions, TaskPredictions
from mmtrain.evaluation.retrieval import retrieval_chance, retrieval_names, retrieval_statistic
from mmtrain.evaluation.standards import PRIMARY

Index = npt.NDArray[np.int64]


def pretext_metrics(item: PretextPredictions) -> Iterator[tuple[str, float]]:
    """(name, value) of retrieval and of the task's own scores; NaN where no sample has any."""
    everything = np.arange(len(item))
    for name in metric_names(item):
        yield name, pretext_statistic(item, name)(everything)


def metric_names(item: PretextPredictions) -> list[str]:
    """What the predictions can be measured by, beside their losses."""
    return [*retrieval_names(tuple(item.ranks)), *_geometry_names(item), *item.scores]


def pretext_statistic(item: PretextPredictions, metric: str) -> Callable[[Index], float]:
    """A metric, or the mean `loss`, of the samples at an index."""
    if metric == "loss" or metric in item.scores:
        values = np.asarray(item.losses if metric == "loss" else item.scores[metric], np.float64)
        return lambda index: _mean(values[index])
    if metric in _geometry_names(item):
        return geometry_statistic(metric, item.distances, item.potentials)
    return retrieval_statistic(metric, item.ranks)


def pretext_baseline(item: PretextPredictions, metric: str) -> float:
    """What rankings at random give; NaN for what is no retrieval."""
    return retrieval_chance(metric, item.candidates) if metric in retrieval_names(tuple(item.ranks)) else float("nan")


def primary_metric(item: Predictions) -> str:
    """The metric that stands for a task: of a pretext task recall@10, else its first score, else its loss."""
    if isinstance(item, TaskPredictions):
        return PRIMARY[item.kind]
    return table_metrics(item)[0]


def table_metrics(item: PretextPredictions) -> tuple[str, ...]:
    """What the table of an evaluation shows of a pretext task."""
    if item.ranks:
        return ("recall@10", "median_rank")
    return tuple(item.scores)[:2] or ("loss",)


def _geometry_names(item: PretextPredictions) -> list[str]:
    return geometry_names(tuple(item.distances), tuple(item.potentials))


def _mean(values: npt.NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
