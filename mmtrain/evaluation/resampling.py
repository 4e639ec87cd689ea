"""A metric as a fast function of sample indices, which is what the bootstrap calls a thousand times."""

from collections.abc import Callable

import numpy as np

from mmtrain.evaluation.metrics import metrics, predicted_classes
from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.evaluation.ranking import Ranking, average_ranks, pearson
from mmtrain.evaluation.statistics import Index

Statistic = Callable[[Index], float]


def statistic_of(predictions: TaskPredictions, metric: str) -> Statistic:
    """`metric` of the samples at an index; the same number as `metrics` gives for them.

    Accuracy, ranking metrics, errors and correlations take numpy's short way; any other metric is computed by `metrics`
    itself, some milliseconds a call. Errors: DataError for NaN predictions; KeyError for a metric the kind lacks.
    """
    predictions.refuse_nonfinite()
    if metric in ("auroc", "average_precision", "macro_auroc", "macro_average_precision"):
        return _ranked(predictions, metric.removeprefix("macro_"))
    if metric == "accuracy":
        right = predicted_classes(predictions).numpy() == predictions.labels
        return lambda index: float(right[index].mean())
    values, labels = np.asarray(predictions.probabilities, np.float64), predictions.labels
    regression: dict[str, Statistic] = {
        "mae": lambda index: float(np.abs(values[index] - labels[index]).mean()),
        "rmse": lambda index: float(np.sqrt(np.square(values[index] - labels[index]).mean())),
        "pearson": lambda index: pearson(values[index], labels[index]),
        "spearman": lambda index: pearson(average_ranks(values[index]), average_ranks(labels[index])),
    }
    if metric in regression:
        return regression[metric]
    return lambda index: dict(metrics(predictions.subset(index)))[metric]


def _ranked(predictions: TaskPredictions, metric: str) -> Statistic:
    labels, scores = predictions.labels, predictions.logits
    if predictions.kind == "multiclass":
        labels, scores = np.eye(len(predictions.classes))[labels.astype(np.int64)], predictions.probabilities
    rankings = [Ranking(truth, score) for truth, score in zip(np.atleast_2d(labels.T), np.atleast_2d(scores.T), strict=True)]

    def statistic(index: Index) -> float:
        values = np.array([getattr(ranking, metric)(index) for ranking in rankings])
        defined = values[~np.isnan(values)]
        return float(defined.mean()) if len(defined) else float("nan")

    return statistic
