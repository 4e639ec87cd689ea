"""How far probabilities can be believed: reliability bins, expected calibration error and Brier score."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from mmtrain.evaluation.calibration import calibrated_probabilities
from mmtrain.evaluation.predictions import TaskPredictions

Floats = npt.NDArray[np.float64]
NUM_BINS = 15


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Predictions with a probability from `low` to below `high` (the last: up to 1); means are NaN where there is none."""

    low: float
    high: float
    mean_probability: float
    share_positive: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """NaN where there is no sample."""

    ece: float
    brier: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Of the model's own probabilities, and of those after temperature scaling; None where there was none."""

    before: Reliability
    after: Reliability | None


def calibration(predictions: TaskPredictions) -> Calibration:
    """Of a task that is no regression."""
    after = None if predictions.temperature is None else reliability(predictions)
    return Calibration(before=reliability(replace(predictions, temperature=None)), after=after)


def reliability(predictions: TaskPredictions) -> Reliability:
    """Binary: of the positive class. Multilabel: of every pair of sample and class. Multiclass: of the class that is the
    most probable, `share_positive` being how often it is right; the Brier score is over all classes.

    ECE (Guo et al. 2017, equation 3): over 15 bins of equal width, the mean distance of the mean probability from the share
    of positives, weighed by the bins' counts.
    """
    from torchmetrics.functional.classification import binary_calibration_error

    probabilities, labels = calibrated_probabilities(predictions), predictions.labels
    if predictions.kind == "multiclass":
        truth = np.eye(len(predictions.classes))[labels.astype(np.int64)]
        brier = np.square(probabilities - truth).sum(axis=1)
        chosen, right = probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(np.float64)
    else:
        chosen, right = probabilities.ravel(), labels.ravel()
        brier = np.square(chosen - right)
    if not len(right):
        return Reliability(ece=float("nan"), brier=float("nan"), bins=_bins(chosen, right))
    # in single precision 1 - 1e-9 is 1, which has a bin of its own there
    inside = torch.from_numpy(np.minimum(chosen, np.nextafter(1.0, 0)))
    error = binary_calibration_error(inside, torch.from_numpy(right).long(), n_bins=NUM_BINS, norm="l1")
    return Reliability(ece=float(error), brier=float(brier.mean()), bins=_bins(chosen, right))


def _bins(probabilities: Floats, right: Floats) -> tuple[Bin, ...]:
    edges = np.linspace(0, 1, NUM_BINS + 1)
    places = np.clip(np.searchsorted(edges, probabilities, side="right") - 1, 0, NUM_BINS - 1)
    found = []
    for number in range(NUM_BINS):
        inside = places == number
        means = (float(values[inside].mean()) if inside.any() else float("nan") for values in (probabilities, right))
        mean, share = means
        low, high, count = float(edges[number]), float(edges[number + 1]), int(inside.sum())
        found.append(Bin(low=low, high=high, mean_probability=mean, share_positive=share, count=count))
    return tuple(found)
