"""A metric as a fast function of sample indices, which is what the bootstrap calls a thousand times."""

from collections.abc import Callable

import numpy as np

from mmtrain.errors import ConfigError
from mmtrain.evaluation.counting import class_statistic, tag_statistic
from mmtrain.evaluation.metrics import metrics, predicted_classes
from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.evaluation.ranking import Ranking, average_ranks, pearson
from mmtrain.evaluation.statistics import Index

Statistic = Callable[[Index], float]
_RANKED = ("auroc", "average_precision", "macro_auroc", "macro_average_precision")


def statistic_of(predictions: TaskPredictions, metric: str) -> Statistic:
    """`metric` of the samples at an index; the same number as `metrics` gives for them, NaN included.

    Errors: DataError for NaN predictions; ConfigError for a metric that the kind lacks.
    """
    predictions.refuse_nonfinite()
    names = [name for name, _ in metrics(predictions.subset(np.zeros(0, np.int64)))]
    if metric not in names:
        raise ConfigError(f"task '{predictions.task}' is {predictions.kind} and has no '{metric}', only {', '.join(names)}")
    if metric in _RANKED:
        return _ranked(predictions, metric.removeprefix("macro_"))
    if predictions.kind == "regression":
        return _regression(predictions)[metric]
    chosen, labels = predicted_classes(predictions).numpy(), predictions.labels.astype(np.int64)
    if metric == "accuracy":
        right = chosen == labels
        return lambda index: float(right[index].mean())
    if predictions.kind == "multilabel":
        return tag_statistic(metric, labels, chosen)
    return class_statistic(metric, labels, chosen, len(predictions.classes) if predictions.kind == "multiclass" else 2)


def _regression(predictions: TaskPredictions) -> dict[str, Statistic]:
    values, labels = np.asarray(predictions.probabilities, np.float64), predictions.labels
    return {
        "mae": lambda index: float(np.abs(values[index] - labels[index]).mean()),
        "rmse": lambda index: float(np.sqrt(np.square(values[index] - labels[index]).mean())),
        "pearson": lambda index: pearson(values[index], labels[index]),
        "spearman": lambda index: pearson(average_ranks(values[index]), average_ranks(labels[index])),
    }


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
