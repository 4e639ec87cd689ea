"""Whether two variants differ, for other seeds and other samples at once: a paired test that resamples groups and seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmtrain.evaluation.comparison import ByTask, metric_statistic, over_groups, over_seeds
from mmtrain.evaluation.statistics import resample

Floats = npt.NDArray[np.float64]
MIN_SEEDS = 3  # fewer say nothing of their spread: no interval, no p
_NAN = float("nan")
_ROUNDING = 1e-9  # of the largest difference: a spread below this is none


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A run's metric, and what it is in resamples of whole groups: `values` [R], of the same groups for every run."""

    value: float
    values: Floats
    num_groups: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The mean over seeds of what two variants differ by, its 95 % interval, and the p of it; NaN where undefined.

    `num_groups`: 0 where groups were not resampled. `p_seeds`: the paired t-test over seeds alone.
    """

    mean: float
    low: float
    high: float
    p: float
    num_seeds: int
    num_groups: int
    p_seeds: float


def sampled(predictions: ByTask, metric: str, *, num_resamples: int = 1000, seed: int = 0) -> Sampled:
    """`metric` (`task/name`, `task@stream/name` or `loss`) of one run. Errors: DataError where its predictions lack it."""
    statistic, sources = metric_statistic(predictions, metric)
    values, num_groups = resample(statistic, sources, num_resamples=num_resamples, seed=seed)
    return Sampled(value=float(statistic(np.arange(len(sources)))), values=values, num_groups=num_groups)


def over_seeds_and_groups(runs: Sequence[Sampled], baseline: Sequence[Sampled]) -> Difference:
    """The difference of two variants that have a run for each seed, all on the same samples, in the order of the seeds.

    Seeds and groups are crossed: every seed is scored on every group. So the variance of the mean is that of resampled
    groups, the same ones for all runs (widened by G / (G - 1)), plus that of resampled seeds, s^2 / S, which needs no draws.
    What belongs to a seed on a group alone is in both, which errs to the safe side: the pigeonhole bootstrap of Owen 2007,
    "The pigeonhole bootstrap". Over that deviation the mean is compared with the critical value of Cochran and Cox 1950,
    Student's t of S - 1 and of G - 1 degrees, weighted by their shares of the variance. In simulation at most 6 % of equal
    variants are called different at 5 %; a test over seeds alone calls more of them so, the more the groups differ.
    Fewer than three seeds have neither interval nor p; where groups cannot be resampled, the test is over seeds alone.
    """
    differences = [one.value - other.value for one, other in zip(runs, baseline, strict=True)]
    alone = over_seeds_alone(differences)
    num_groups = min((run.num_groups for run in (*runs, *baseline)), default=0)
    if len(differences) < MIN_SEEDS or num_groups < 2:
        return alone
    drawn = np.stack([one.values - other.values for one, other in zip(runs, baseline, strict=True)]).mean(axis=0)  # [R]
    defined = drawn[~np.isnan(drawn)]
    if 2 * len(defined) <= len(drawn):
        return alone
    of_groups = float(np.var(defined)) * num_groups / (num_groups - 1)
    of_seeds = float(np.var(differences, ddof=1)) / len(differences)
    low, high, p = _test(
        alone.mean, (of_seeds, len(differences) - 1), (of_groups, num_groups - 1), max(map(abs, differences))
    )
    return Difference(
        mean=alone.mean, low=low, high=high, p=p, num_seeds=alone.num_seeds, num_groups=num_groups, p_seeds=alone.p_seeds
    )


def over_seeds_alone(differences: Sequence[float]) -> Difference:
    """Of a difference for each seed: the paired t-test."""
    found = over_seeds(differences)
    enough = len(differences) >= MIN_SEEDS
    low, high, p = (found.low, found.high, found.p) if enough else (_NAN, _NAN, _NAN)
    return Difference(mean=found.mean, low=low, high=high, p=p, num_seeds=len(differences), num_groups=0, p_seeds=p)


def over_groups_alone(predictions: ByTask, baseline: ByTask, metric: str) -> Difference:
    """Of one run for each of the two variants. Errors: DataError, as `over_groups` has them."""
    found = over_groups(predictions, metric, baseline=baseline)
    return Difference(
        mean=found.mean, low=found.low, high=found.high, p=found.p, num_seeds=1, num_groups=found.num, p_seeds=_NAN
    )


def _test(mean: float, seeds: tuple[float, int], groups: tuple[float, int], largest: float) -> tuple[float, float, float]:
    """Interval and p of a mean whose variance has two parts, each with its degrees of freedom."""
    error = float(np.sqrt(seeds[0] + groups[0]))
    if error <= _ROUNDING * largest:
        return (mean, mean, 1.0) if mean == 0 else (_NAN, _NAN, _NAN)
    critical = _critical(seeds, groups)
    reach = critical(0.05) * error
    return mean - reach, mean + reach, _p_of(abs(mean) / error, critical)


def _critical(*parts: tuple[float, int]) -> Callable[[float], float]:
    """The value that |mean| / error exceeds with probability p: quantiles of Student's t, weighted by the variances."""
    from scipy.special import stdtrit

    whole = sum(variance for variance, _ in parts)
    return lambda p: float(sum(variance * -stdtrit(degrees, p / 2) for variance, degrees in parts) / whole)


def _p_of(distance: float, critical: Callable[[float], float]) -> float:
    """The p whose critical value a distance is; `critical` falls from infinity at 0 to 0 at 1."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if critical(middle) > distance else (low, middle)
    return (low + high) / 2
