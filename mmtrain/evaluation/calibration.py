"""What validation chooses for a task after training: a temperature for its logits, and thresholds for its decisions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import TaskKind
from mmtrain.evaluation.predictions import TaskPredictions

Floats = npt.NDArray[np.float64]
ThresholdRule = Literal["half", "best_f1", "best_balanced_accuracy"]
_COLDEST, _HOTTEST = 0.05, 20.0
_LEAST = 1e-9  # a threshold below it, or as near to 1, has no odds to speak of


@dataclass(frozen=True, kw_only=True)
class TaskCalibration:
    """`temperature`: None where validation has labels of one class alone. `thresholds`: of the calibrated probability, by
    rule; none for multiclass.
    """

    temperature: float | None
    thresholds: Mapping[str, float]


def fit(predictions: TaskPredictions) -> TaskCalibration:
    """From predictions of validation. Errors: ValueError for a regression, DataError for NaN."""
    if predictions.kind == "regression":
        raise ValueError(f"'{predictions.task}' is a regression: it has no probability to calibrate")
    predictions.refuse_nonfinite()
    temperature = fit_temperature(predictions)
    if predictions.kind == "multiclass":
        return TaskCalibration(temperature=temperature, thresholds={})
    cuts = {rule: best_cut(predictions, rule) for rule in ("best_f1", "best_balanced_accuracy")}
    thresholds = {rule: _heated(cut, temperature or 1.0) for rule, cut in cuts.items()}
    return TaskCalibration(temperature=temperature, thresholds={"half": 0.5} | thresholds)


def calibrated(predictions: TaskPredictions, found: TaskCalibration | None, rule: ThresholdRule) -> TaskPredictions:
    """The same predictions, with a temperature and the threshold of a rule; as they are where nothing was fitted."""
    if found is None:
        return predictions
    return replace(predictions, temperature=found.temperature, threshold=found.thresholds.get(rule, 0.5))


def calibrated_probabilities(predictions: TaskPredictions) -> Floats:
    """[N] or [N, C]: of logits over the temperature; those of the model where there is none, or it is a regression."""
    if predictions.temperature is None or predictions.kind == "regression":
        return np.asarray(predictions.probabilities, np.float64)
    return probabilities_of(predictions.kind, predictions.logits, temperature=predictions.temperature)


def probabilities_of(kind: TaskKind, logits: npt.NDArray[np.floating], *, temperature: float) -> Floats:
    """[N] or [N, C] of logits of the same shape over the temperature; of tasks with classes."""
    from scipy.special import expit, softmax

    scaled = np.asarray(logits, np.float64) / temperature
    values: Floats = softmax(scaled, axis=-1) if kind == "multiclass" else expit(scaled)
    return values


def fit_temperature(predictions: TaskPredictions) -> float | None:
    """The T of Guo et al. 2017 ("On Calibration of Modern Neural Networks", equation 9) that makes the negative log
    likelihood of logits / T least, by L-BFGS over 1 / T, in which it is convex; between 0.05 and 20.

    None where the labels are of one class alone.
    """
    from scipy.optimize import minimize

    logits, labels = np.asarray(predictions.logits, np.float64), predictions.labels
    if len(np.unique(labels)) < 2:
        return None
    likelihood = _multiclass_likelihood if predictions.kind == "multiclass" else _binary_likelihood
    found = minimize(
        lambda inverse: likelihood(logits, labels, float(inverse[0])),
        x0=np.ones(1),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1 / _HOTTEST, 1 / _COLDEST)],
        options={"ftol": 1e-12, "gtol": 1e-9},
    )
    return float(1 / found.x[0])


def bound_notes(found: Mapping[str, TaskCalibration]) -> list[str]:
    """By task, a sentence where the temperature stands at an end of what is tried."""
    ends = {
        _HOTTEST: "the highest tried: logits tell little of how likely a class is, and probabilities lie close together",
        _COLDEST: "the lowest tried: hardly a validation sample is on the wrong side, and probabilities are near 0 or 1",
    }
    return [
        f"{task}: the temperature is {end:g}, {what}"
        for task, entry in found.items()
        for end, what in ends.items()
        if entry.temperature is not None and np.isclose(entry.temperature, end)
    ]


def _binary_likelihood(logits: Floats, labels: Floats, inverse: float) -> tuple[float, Floats]:
    """The mean negative log likelihood of logits times `inverse`, and its derivative by that."""
    from scipy.special import expit

    scaled = logits * inverse
    value = np.mean(np.logaddexp(0, scaled) - labels * scaled)
    return float(value), np.array([np.mean((expit(scaled) - labels) * logits)])


def _multiclass_likelihood(logits: Floats, labels: Floats, inverse: float) -> tuple[float, Floats]:
    from scipy.special import logsumexp, softmax

    scaled, rows = logits * inverse, np.arange(len(labels))
    own = labels.astype(np.int64)
    value = np.mean(logsumexp(scaled, axis=1) - scaled[rows, own])
    expected = (softmax(scaled, axis=1) * logits).sum(axis=1)
    return float(value), np.array([np.mean(expected - logits[rows, own])])


def best_cut(predictions: TaskPredictions, rule: str) -> float:
    """The probability of the model above which calling a sample positive is best: halfway between two that occur, or 0.5.

    Of several that are equally good the one nearest to 0.5. Of a multilabel task it is one for all classes, by their mean.
    """
    labels, scores = (np.asarray(values, np.float64) for values in (predictions.labels, predictions.probabilities))
    columns = [labels.reshape(len(labels), -1), scores.reshape(len(scores), -1)]
    distinct = np.unique(columns[1])
    cuts = np.append((distinct[1:] + distinct[:-1]) / 2, 0.5)
    measure = {"best_f1": _f1, "best_balanced_accuracy": _balanced_accuracy}[rule]
    by_class = np.array([measure(truth == 1, score, cuts) for truth, score in zip(*(c.T for c in columns), strict=True)])
    defined = ~np.isnan(by_class)
    means = np.where(defined, by_class, 0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
    best = cuts[means >= means.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def _called(scores: Floats, cuts: Floats) -> Floats:
    """How many of some scores are above each cut."""
    called: Floats = (len(scores) - np.searchsorted(np.sort(scores), cuts, side="right")).astype(np.float64)
    return called


def _f1(positive: npt.NDArray[np.bool_], scores: Floats, cuts: Floats) -> Floats:
    whole = positive.sum() + _called(scores, cuts)
    values: Floats = np.where(whole > 0, 2 * _called(scores[positive], cuts) / np.maximum(whole, 1), np.nan)
    return values


def _balanced_accuracy(positive: npt.NDArray[np.bool_], scores: Floats, cuts: Floats) -> Floats:
    if positive.all() or not positive.any():
        return np.full(len(cuts), np.nan)
    recall = _called(scores[positive], cuts) / positive.sum()
    specificity = 1 - _called(scores[~positive], cuts) / (~positive).sum()
    values: Floats = (recall + specificity) / 2
    return values


def _heated(probability: float, temperature: float) -> float:
    """What calibration makes of a probability."""
    clipped = min(max(probability, _LEAST), 1 - _LEAST)
    heated = 1 / (1 + ((1 - clipped) / clipped) ** (1 / temperature))
    return float(min(max(heated, _LEAST), 1 - _LEAST))
