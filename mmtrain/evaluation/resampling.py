"""A metric as a fast function of sample indices, which is what the bootstrap calls a thousand times."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from mmtrain.errors import ConfigError
from mmtrain.evaluation.conventions import CONVENTIONS
from mmtrain.evaluation.correlation import correlation
from mmtrain.evaluation.counting import class_moments, tag_moments
from mmtrain.evaluation.metrics import metric_names, predicted_classes
from mmtrain.evaluation.moments import Floats, Index, Moments, mean_of, root_of, share_of
from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.evaluation.ranking import Ranking, average_ranks, pearson

Statistic = Callable[[Index], float]
_POSITIVE = (0.0, np.inf)
_RANKED = ("auroc", "average_precision")


def statistic_of(predictions: TaskPredictions, metric: str) -> Statistic:
    """`metric` of the samples at an index; the same number as `metrics` gives for them, NaN included.

    Where it is a function of sums over samples it is `Moments`, which the bootstrap knows more of.
    Errors: DataError for NaN predictions; ConfigError for a metric that the kind lacks.
    """
    predictions.refuse_nonfinite()
    names = metric_names(predictions.kind, predictions.convention)
    if metric not in names:
        raise ConfigError(f"task '{predictions.task}' is {predictions.kind} and has no '{metric}', only {', '.join(names)}")
    average, _, ranked = metric.partition("_") if metric.startswith(("macro_", "micro_")) else ("", "", metric)
    if ranked in _RANKED:
        return _ranked(predictions, ranked, pools=average == "micro")
    if predictions.kind == "regression":
        return _regression(predictions, metric)
    chosen, labels = predicted_classes(predictions).numpy(), predictions.labels.astype(np.int64)
    if predictions.kind == "multilabel":
        return tag_moments(metric, labels, chosen)
    return class_moments(metric, labels, chosen, len(predictions.classes) if predictions.kind == "multiclass" else 2)


def loss_statistic(losses: Floats, name: str) -> Statistic:
    """What `loss_statistics` calls by that name, of the losses at an index."""
    if name == "loss":
        return mean_of(losses, _POSITIVE)
    if name in ("loss_std", "loss_cv"):
        relative = name == "loss_cv"
        return Moments(values=_powers(losses), of=lambda sums: _spread(sums, relative=relative), bounds=_POSITIVE)
    percent = int(name.removeprefix("loss_q"))
    return lambda index: float(np.quantile(losses[index], percent / 100)) if len(index) else float("nan")


def _powers(values: Floats) -> Floats:
    return np.stack([values, np.square(values), np.ones(len(values))], axis=1)


def _spread(sums: Tensor, *, relative: bool) -> Tensor:
    mean, square = sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 2]
    deviation = root_of(square - mean.square())
    return share_of(deviation, mean) if relative else deviation


def _regression(predictions: TaskPredictions, metric: str) -> Statistic:
    values, labels = np.asarray(predictions.probabilities, np.float64), predictions.labels
    if predictions.convention is not None and metric in CONVENTIONS[predictions.convention]().names:
        return CONVENTIONS[predictions.convention]().moments(metric, values, labels)
    if metric == "mae":
        return mean_of(np.abs(values - labels), _POSITIVE)
    if metric == "rmse":
        columns = np.stack([np.square(values - labels), np.ones(len(values))], axis=1)
        return Moments(values=columns, of=lambda sums: root_of(sums[:, 0] / sums[:, 1]), bounds=_POSITIVE)
    if metric == "pearson":
        return correlation(values, labels)
    return lambda index: pearson(average_ranks(values[index]), average_ranks(labels[index]))


def _ranked(predictions: TaskPredictions, metric: str, *, pools: bool) -> Statistic:
    labels, scores = predictions.labels, predictions.logits
    if predictions.kind == "multiclass":
        labels, scores = np.eye(len(predictions.classes))[labels.astype(np.int64)], predictions.probabilities
    if pools:
        whole, width = getattr(Ranking(labels.ravel(), scores.ravel()), metric), labels.shape[1]
        return lambda index: float(whole((index[:, None] * width + np.arange(width)).ravel()))
    rankings = [Ranking(truth, score) for truth, score in zip(np.atleast_2d(labels.T), np.atleast_2d(scores.T), strict=True)]

    def statistic(index: Index) -> float:
        values = np.array([getattr(ranking, metric)(index) for ranking in rankings])
        defined = values[~np.isnan(values)]
        return float(defined.mean()) if len(defined) else float("nan")

    return statistic
