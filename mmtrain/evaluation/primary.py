"""The metric that stands for a task, as a function of samples, whatever kind of task it is."""

from mmtrain.evaluation.predictions import Predictions, TaskPredictions
from mmtrain.evaluation.pretext_metrics import pretext_statistic, primary_metric
from mmtrain.evaluation.resampling import Statistic, statistic_of


def primary_statistic(item: Predictions) -> tuple[str, Statistic]:
    """Its name, and its value for the samples at an index (NaN where it is not defined).

    Errors: DataError for predictions that are NaN.
    """
    metric = primary_metric(item)
    return metric, statistic_of(item, metric) if isinstance(item, TaskPredictions) else pretext_statistic(item, metric)
