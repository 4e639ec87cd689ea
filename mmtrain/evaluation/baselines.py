"""What a metric is worth without reading any input: the constant predictor learnt from training labels."""

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import TaskKind
from mmtrain.evaluation.metrics import metrics
from mmtrain.evaluation.predictions import TaskPredictions

Labels = npt.NDArray[np.float64]


def baseline(metric: str, *, kind: TaskKind, classes: tuple[str, ...], train: Labels, test: Labels) -> float:
    """`metric` on the test labels of one prediction for all samples, fitted to the training labels ([N] or [N, C]).

    It is the training shares of the classes (so accuracy is the training majority's share in the test labels, AUROC 0.5,
    average precision the prevalence), the mean for regression, and the median for `mae`. Metrics of the positive class
    (precision, recall, F1; also multilabel F1) are held against calling everything positive, which guessing cannot beat.
    A correlation with a constant is put at 0. NaN where the test labels leave the metric undefined, or there is no
    training label.
    """
    if not len(train) or not len(test):
        return float("nan")
    value = dict(metrics(constant_predictions(metric, kind=kind, classes=classes, train=train, test=test)))[metric]
    if metric in ("pearson", "spearman") and len(np.unique(test)) > 1:
        return 0.0
    return value


def constant_predictions(
    metric: str, *, kind: TaskKind, classes: tuple[str, ...], train: Labels, test: Labels
) -> TaskPredictions:
    """The predictions of that constant for every test label."""
    if kind == "multiclass":
        constant = np.bincount(train.astype(np.int64), minlength=len(classes)) / len(train)
    elif kind == "regression":
        constant = np.asarray(np.median(train) if metric == "mae" else np.mean(train))
    else:
        positive = ("precision", "recall", "f1") if kind == "binary" else ("macro_f1", "micro_f1")
        constant = np.ones(train.shape[1:]) if metric in positive else np.asarray(train.mean(axis=0))
    values = np.broadcast_to(constant, (len(test), *constant.shape)).astype(np.float64)
    blank = np.full(len(test), "", np.str_)
    return TaskPredictions(
        task="baseline",
        kind=kind,
        classes=classes,
        ids=blank,
        streams=blank,
        groups=blank,
        labels=test,
        logits=values,
        probabilities=values,
        losses=np.zeros(len(test)),
    )
