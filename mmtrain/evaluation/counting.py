"""Metrics of decisions as functions of counts: what was right, what is so, what was called so; `metrics` defines them."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmtrain.evaluation.moments import Moments, mean_of, mean_where, root_of, share_of

Ints = npt.NDArray[np.int64]
_SHARE, _SIGNED = (0.0, 1.0), (-1.0, 1.0)


def class_moments(metric: str, labels: Ints, chosen: Ints, num_classes: int) -> Moments:
    """A metric of class numbers [N]: of class 1 without a prefix, else over the classes."""
    if metric == "accuracy":
        return mean_of(labels == chosen, _SHARE)
    if metric == "mcc":
        return _counted(_one_hot(labels, chosen, num_classes), _multiclass_mcc, _SIGNED)
    functions: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "precision": lambda right, _, called: share_of(right, called)[..., 1],
        "recall": lambda right, actual, _: share_of(right, actual)[..., 1],
        # F1 asks for a positive label, though its formula would give 0 without one
        "f1": lambda right, actual, called: share_of(2 * right, _where(actual > 0, actual + called))[..., 1],
        "balanced_accuracy": lambda right, actual, _: _if_several(
            actual, mean_where(share_of(right, actual).nan_to_num(), actual > 0)
        ),
        "macro_precision": lambda right, actual, called: _macro(right, called, actual, called),
        "macro_recall": lambda right, actual, called: _macro(right, actual, actual, called),
        "macro_f1": lambda right, actual, called: _macro(2 * right, actual + called, actual, called),
        "weighted_f1": _weighted_f1,
    }
    return _counted(_one_hot(labels, chosen, num_classes), functions[metric], _SHARE)


def _one_hot(labels: Ints, chosen: Ints, num_classes: int) -> npt.NDArray[np.bool_]:
    """[N, 3 C]: right, actual, called."""
    classes = np.arange(num_classes)
    actual, called = labels[:, None] == classes, chosen[:, None] == classes
    return np.concatenate([actual & called, actual, called], axis=1)


def _counted(
    columns: npt.NDArray[np.bool_], function: Callable[[Tensor, Tensor, Tensor], Tensor], bounds: tuple[float, float]
) -> Moments:
    def of(sums: Tensor) -> Tensor:
        right, actual, called = sums.reshape(len(sums), 3, -1).unbind(dim=1)
        return function(right, actual, called)

    return Moments(values=columns, of=of, bounds=bounds)


def _where(chosen: Tensor, values: Tensor) -> Tensor:
    return torch.where(chosen, values, 0.0)


def _if_several(actual: Tensor, values: Tensor) -> Tensor:
    """NaN where all labels are of one class."""
    return torch.where((actual > 0).sum(dim=-1) > 1, values, torch.nan)


def _macro(part: Tensor, whole: Tensor, actual: Tensor, called: Tensor) -> Tensor:
    scores = share_of(part, whole).nan_to_num()
    return _if_several(actual, mean_where(scores, actual + called > 0))


def _weighted_f1(right: Tensor, actual: Tensor, called: Tensor) -> Tensor:
    scores = share_of(2 * right, actual + called).nan_to_num()
    return share_of((scores * actual).sum(dim=-1), actual.sum(dim=-1))


def _multiclass_mcc(right: Tensor, actual: Tensor, called: Tensor) -> Tensor:
    count = actual.sum(dim=-1)
    covariance = right.sum(dim=-1) * count - (actual * called).sum(dim=-1)
    spreads = [count.square() - values.square().sum(dim=-1) for values in (actual, called)]
    return torch.where(spreads[0] > 0, share_of(covariance, root_of(spreads[0] * spreads[1])).nan_to_num(), torch.nan)


def tag_moments(metric: str, labels: Ints, chosen: Ints) -> Moments:
    """A metric of 0/1 decisions [N, C]."""
    right, wrong = labels & chosen, labels != chosen
    if metric == "hamming_distance":
        return mean_of(wrong.mean(axis=1), _SHARE)
    if metric == "exact_match":
        return mean_of(~wrong.any(axis=1), _SHARE)
    columns = np.concatenate([right, labels, chosen], axis=1).astype(bool)
    functions: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "precision": lambda right, _, called: share_of(right, called),
        "recall": lambda right, actual, _: share_of(right, actual),
        "f1": lambda right, actual, called: share_of(2 * right, actual + called),
    }
    average, _, name = metric.partition("_")
    function = functions.get(name)
    if function is None:  # of negatives too: what is not counted under its class is under `none`
        columns = np.concatenate([right, labels, chosen, np.ones_like(labels)], axis=1).astype(bool)
        score = {"balanced_accuracy": _balanced, "mcc": _binary_mcc}[name]
        bounds = _SIGNED if name == "mcc" else _SHARE
        return Moments(values=columns, of=lambda sums: _mean_of_tags(score, sums), bounds=bounds)

    def of(right: Tensor, actual: Tensor, called: Tensor) -> Tensor:
        if average == "micro":
            right, actual, called = (counts.sum(dim=-1) for counts in (right, actual, called))
            occurs = actual + called > 0
            return torch.where(occurs, function(right, actual, called).nan_to_num(), torch.nan)
        return mean_where(function(right, actual, called).nan_to_num(), actual + called > 0)

    return _counted(columns, of, _SHARE)


def _mean_of_tags(score: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], sums: Tensor) -> Tensor:
    right, actual, called, count = sums.reshape(len(sums), 4, -1).unbind(dim=1)
    return mean_where(score(right, actual, called, count).nan_to_num(), (actual > 0) & (actual < count))


def _balanced(right: Tensor, actual: Tensor, called: Tensor, count: Tensor) -> Tensor:
    return (share_of(right, actual) + share_of(count - actual - called + right, count - actual)) / 2


def _binary_mcc(right: Tensor, actual: Tensor, called: Tensor, count: Tensor) -> Tensor:
    spread = actual * (count - actual) * called * (count - called)
    return share_of(count * right - actual * called, root_of(spread))
