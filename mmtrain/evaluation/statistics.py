"""How sure a number is: bootstrap intervals that resample whole groups."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """Bounds of a statistic; NaN where it could not be bounded."""

    low: float
    high: float
    num_groups: int
    num_undefined: int = 0  # resamples in which the statistic was NaN


def grouped_bootstrap(
    statistic: Callable[[Index], float],
    groups: npt.NDArray[Any],
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int,
) -> Interval:
    """Interval of `statistic(index)`, where `index` lists samples with repeats, from whole groups drawn with replacement.

    `groups`: [N], the source of each sample; samples of one source are alike, and resampling them one by one would give
    intervals that are too narrow. The bounds are quantiles of the resampled statistic, at levels widened as Student's t is
    wider than the normal for G - 1 degrees of freedom: the "expanded percentile" of Hesterberg 2015, "What Teachers
    Should Know About the Bootstrap". Coverage of a nominal 95 % in simulation (means and AUROC, groups of 1 to 10
    samples with a shared effect): 90 to 94 % with 5 groups, 92 to 96 % with 8 or more. With very few groups it reaches no
    further than the extremes of the resamples. Resamples in which the statistic is NaN (one class only) are
    left out and counted; both bounds are NaN where there are fewer than two groups or half of the resamples are NaN.
    """
    values, num_groups = resample(statistic, groups, num_resamples=num_resamples, seed=seed)
    return interval_of(values, num_groups, confidence=confidence)


def resample(
    statistic: Callable[[Index], float], groups: npt.NDArray[Any], *, num_resamples: int = 1000, seed: int
) -> tuple[npt.NDArray[np.float64], int]:
    """The statistic of every resample (none where there are fewer than two groups), and the number of groups.

    Equal `groups` and `seed` give equal resamples, so that what two statistics say of them can be paired.
    """
    _, codes = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes)
    num_groups = len(sizes)
    if num_groups < 2:
        return np.empty(0), num_groups
    order = np.argsort(codes, kind="stable")
    starts = np.cumsum(sizes) - sizes
    generator = np.random.default_rng(seed)
    values = np.empty(num_resamples)
    for number in range(num_resamples):
        drawn = generator.integers(num_groups, size=num_groups)
        lengths = sizes[drawn]
        shift = np.repeat(starts[drawn] - (np.cumsum(lengths) - lengths), lengths)
        values[number] = statistic(order[shift + np.arange(len(shift))])
    return values, num_groups


def interval_of(values: npt.NDArray[np.float64], num_groups: int, *, confidence: float = 0.95) -> Interval:
    """The expanded percentiles of resampled values, as `grouped_bootstrap` says."""
    defined = values[~np.isnan(values)]
    num_undefined = len(values) - len(defined)
    if 2 * len(defined) <= len(values):
        return Interval(np.nan, np.nan, num_groups, num_undefined)
    tail = _expanded_tail((1 - confidence) / 2, num_groups)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high), num_groups, num_undefined)


def _expanded_tail(tail: float, num_groups: int) -> float:
    from scipy.special import ndtr, stdtrit

    return float(ndtr(np.sqrt(num_groups / (num_groups - 1)) * stdtrit(num_groups - 1, tail)))
