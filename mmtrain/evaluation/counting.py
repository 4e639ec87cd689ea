"""Precision, recall and F1 of resamples from counts of right and wrong decisions; `metrics` defines what they are."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def class_statistic(metric: str, labels: Ints, chosen: Ints, num_classes: int) -> Callable[[Ints], float]:
    """`[macro_]precision | recall | f1` of class numbers [N] at an index; without `macro_` it is class 1's."""
    codes = labels * num_classes + chosen

    def statistic(index: Ints) -> float:
        confusion = np.bincount(codes[index], minlength=num_classes**2).reshape(num_classes, num_classes)
        right, actual, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        whole = {"precision": predicted, "recall": actual, "f1": (actual + predicted) / 2}[metric.removeprefix("macro_")]
        scores = _ratio(right, whole)
        if metric.startswith("macro_"):
            is_defined = np.count_nonzero(actual) > 1
            return float(np.nan_to_num(scores)[actual + predicted > 0].mean()) if is_defined else float("nan")
        # F1 asks for a positive label, though its formula would give 0 without one
        return float("nan") if metric == "f1" and not actual[1] else float(scores[1])

    return statistic


def tag_statistic(metric: str, labels: Ints, chosen: Ints) -> Callable[[Ints], float]:
    """`macro_f1 | micro_f1 | exact_match | hamming_distance` of 0/1 decisions [N, C] at an index."""
    right, either = labels & chosen, (labels + chosen) / 2
    wrong = labels != chosen

    def statistic(index: Ints) -> float:
        if metric == "hamming_distance":
            return float(wrong[index].mean())
        if metric == "exact_match":
            return float(1 - wrong[index].any(axis=1).mean())
        num_right, whole = right[index].sum(axis=0), either[index].sum(axis=0)
        if metric == "micro_f1":
            num_right, whole = num_right.sum(keepdims=True), whole.sum(keepdims=True)
        scores = _ratio(num_right, whole)
        return float(np.nanmean(scores)) if whole.any() else float("nan")

    return statistic


def _ratio(part: npt.NDArray[np.number], whole: npt.NDArray[np.number]) -> Floats:
    """part / whole, NaN where whole is 0."""
    ratio: Floats = np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
    return ratio
