"""How sure a number is: bootstrap intervals that resample whole groups."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.evaluation.moments import Floats, Index, Moments


@dataclass(frozen=True)
class Interval:
    """Bounds of a statistic; NaN where it could not be bounded."""

    low: float
    high: float
    num_groups: int
    num_undefined: int = 0  # resamples in which the statistic was NaN


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """A statistic of the samples as they are, and of resamples of whole groups; `values` are none for fewer than two."""

    value: float
    values: Floats  # [R]
    num_groups: int
    error: float = float("nan")  # the standard error, where the statistic tells one
    errors: Floats | None = None  # [R] each resample's own
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @property
    def spread(self) -> float:
        """The deviation over resamples, widened by sqrt(G / (G - 1)) to that of G groups drawn anew."""
        return float(np.nanstd(self.values) * np.sqrt(self.num_groups / (self.num_groups - 1)))

    @property
    def pivots(self) -> Floats:
        """(value - original) / error of the resamples that have an error; none where the statistic tells none."""
        if self.errors is None or not self.error > 0:
            return np.empty(0)
        usable = ~np.isnan(self.values) & (self.errors > 0)
        return (self.values[usable] - self.value) / self.errors[usable]


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
    wider than the normal for G - 1 degrees of freedom: the "expanded percentile" of Hesterberg 2015, "What Teachers Should
    Know About the Bootstrap". Of `Moments`, where each resample has an error of its own, each bound is the farther of that
    and the studentized one (the bootstrap-t of Efron and Tibshirani 1993, section 12.5: quantiles of (value - original) /
    error in the place of Student's), cut at the metric's own bounds: either alone is too near in some cases of 10 groups,
    and both together never were; docs/metrics.md has the coverages.
    Resamples in which the statistic is NaN (one class only) are left out and counted; both bounds are NaN where there are
    fewer than two groups or half of the resamples are NaN.
    """
    return interval_of(resample(statistic, groups, num_resamples=num_resamples, seed=seed), confidence=confidence)


def resample(
    statistic: Callable[[Index], float], groups: npt.NDArray[Any], *, num_resamples: int = 1000, seed: int
) -> Resamples:
    """The statistic of every resample.

    Equal `groups` and `seed` give equal resamples, so that what two statistics say of them can be paired.
    """
    names, codes = np.unique(groups, return_inverse=True)
    value, num_groups = float(statistic(np.arange(len(codes)))) if len(codes) else float("nan"), len(names)
    if num_groups < 2:
        return Resamples(value=value, values=np.empty(0), num_groups=num_groups)
    draws = np.random.default_rng(seed).integers(num_groups, size=(num_resamples, num_groups))
    if isinstance(statistic, Moments):
        sums = statistic.group_sums(codes, num_groups)
        _, (error,) = statistic.weighted(sums, np.ones((1, num_groups)))
        values, errors = statistic.weighted(sums, _counts(draws))
        return Resamples(
            value=value, values=values, num_groups=num_groups, error=error, errors=errors, bounds=statistic.bounds
        )
    sizes, order = np.bincount(codes), np.argsort(codes, kind="stable")
    starts = np.cumsum(sizes) - sizes
    values = np.array([statistic(order[_members(starts[drawn], sizes[drawn])]) for drawn in draws])
    return Resamples(value=value, values=values, num_groups=num_groups)


def _counts(draws: Index) -> Index:
    """How often [R, G] each of G groups is among the draws [R, G]."""
    rows, num_groups = draws.shape
    flat = np.bincount((draws + np.arange(rows)[:, None] * num_groups).ravel(), minlength=rows * num_groups)
    return flat.reshape(rows, num_groups)


def _members(starts: Index, lengths: Index) -> Index:
    """The places of runs of places that begin at `starts`."""
    shift = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    places: Index = shift + np.arange(len(shift))
    return places


def interval_of(found: Resamples, *, confidence: float = 0.95) -> Interval:
    """The interval of resampled values, as `grouped_bootstrap` says."""
    defined = ~np.isnan(found.values)
    num_undefined = int((~defined).sum())
    if 2 * defined.sum() <= len(defined):
        return Interval(np.nan, np.nan, found.num_groups, num_undefined)
    tail = (1 - confidence) / 2
    bounds = [_expanded(found.values[defined], found.num_groups, tail), *_studentized(found, tail)]
    low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
    return Interval(low, high, found.num_groups, num_undefined)


def _studentized(found: Resamples, tail: float) -> Iterator[tuple[float, float]]:
    """Nothing where the statistic has no error."""
    pivots = found.pivots
    if len(pivots):
        low, high = np.quantile(pivots, [tail, 1 - tail])
        least, most = found.bounds
        yield max(float(found.value - high * found.error), least), min(float(found.value - low * found.error), most)


def _expanded(values: Floats, num_groups: int, tail: float) -> tuple[float, float]:
    from scipy.special import ndtr, stdtrit

    widened = float(ndtr(np.sqrt(num_groups / (num_groups - 1)) * stdtrit(num_groups - 1, tail)))
    low, high = np.quantile(values, [widened, 1 - widened])
    return float(low), float(high)
