"""Whether two runs, or two sets of runs, differ: paired over seeds or over groups of samples, corrected for their number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mmtrain.errors import DataError
from mmtrain.evaluation.fold_table import t_interval
from mmtrain.evaluation.metrics import LOSS_STATISTICS
from mmtrain.evaluation.moments import Index, Moments, share_of
from mmtrain.evaluation.predictions import Predictions, PretextPredictions, joined, with_losses
from mmtrain.evaluation.resampling import Statistic, loss_statistic, statistic_of
from mmtrain.evaluation.statistics import Resamples, interval_of, resample

ByTask = Mapping[str, Predictions]  # as `read_predictions` gives them
_NAN = float("nan")
_ROUNDING = 1e-9  # of the largest value: a spread below this is no spread


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number, its 95 % interval, and the probability of one as far from 0 if the truth were 0; NaN where undefined."""

    mean: float
    low: float
    high: float
    p: float
    num: int  # of the seeds, or of the groups, that it is made over
    over: Literal["seeds", "groups"]


def over_seeds(values: Sequence[float], *, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """Mean of a value per seed and its t-interval; of paired differences this is the paired t-test (n - 1 degrees).

    The interval is cut at `bounds`. p is NaN for one value. Where all are equal, up to rounding, no spread is there to
    measure by: p is 1 for zeros, and else it and the interval are NaN.
    """
    count = len(values)
    mean = float(np.mean(values)) if count else _NAN
    low, high = t_interval(values, bounds=bounds)
    if count > 1 and mean != 0 and _is_rounding(float(np.std(values)), values):
        low, high = _NAN, _NAN
    return Estimate(mean=mean, low=low, high=high, p=_t_test(values), num=count, over="seeds")


def _t_test(values: Sequence[float]) -> float:
    if len(values) < 2:
        return _NAN
    deviation = float(np.std(values, ddof=1))
    error = 0.0 if _is_rounding(deviation, values) else deviation / len(values) ** 0.5
    return _two_sided(float(np.mean(values)), error, len(values) - 1)


def _is_rounding(deviation: float, values: Sequence[float]) -> bool:
    """Whether values of this deviation differ by no more than the rounding of what they were computed from."""
    return deviation <= _ROUNDING * max(map(abs, values), default=0.0)


def _two_sided(mean: float, error: float, degrees: int) -> float:
    """Of Student's t; without any spread 1 for a mean of 0, else NaN: nothing says how sure it is."""
    from scipy.special import stdtr

    if error == 0:
        return 1.0 if mean == 0 else _NAN
    return float(2 * stdtr(degrees, -abs(mean) / error))


def over_groups(
    predictions: ByTask, metric: str, *, baseline: ByTask | None = None, num_resamples: int = 1000, seed: int = 0
) -> Estimate:
    """`metric` (`task/name`, `task@stream/name` or `loss`) of one run, less that of `baseline` on the same samples.

    Whole groups are drawn, the same for both runs: a paired bootstrap. The interval is `grouped_bootstrap`'s; p is of the
    number over its deviation in the resamples, widened by sqrt(G / (G - 1)), in Student's t of G - 1 degrees, or, where that
    is more, the share of resamples whose (value - original) / error is as far from 0 as the number's own. That share alone
    would not do: of a thousand it could never be small enough for a correction.
    Errors: DataError where the two runs did not predict the same samples, or it is a rank of a pretext task.
    """
    predictions = _with_losses(predictions)
    statistic, sources = _statistic(predictions, metric)
    if baseline is not None:
        other, _ = _statistic(_aligned(predictions, _with_losses(baseline), metric), metric)
        statistic = difference(statistic, other)
    return estimate(resample(statistic, sources, num_resamples=num_resamples, seed=seed))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A metric of two runs on the same N samples, as one statistic of both runs' predictions, so that they can be mixed."""

    joint: Statistic  # of indices into both
    one: Index  # [N] where the samples of the one run stand
    other: Index  # [N]
    sources: npt.NDArray[np.int64]  # [N]
    items: tuple[tuple[Predictions, Predictions], ...]  # by task

    def of(self, places: Index) -> Statistic:
        """The statistic of one of them, [N] `places` from above; of indices 0 .. N - 1."""
        if isinstance(self.joint, Moments):
            return replace(self.joint, values=self.joint.values[places])
        return lambda index: self.joint(places[index])


def paired(predictions: ByTask, baseline: ByTask, metric: str) -> Pair:
    """Errors: DataError where the two did not predict the same samples, ConfigError for a metric that the task lacks."""
    first, second = _with_losses(predictions), _with_losses(baseline)
    name = metric.partition("/")[0]
    tasks = list(first) if metric == "loss" else [name.partition("@")[0]]
    if not set(tasks) <= set(first):
        raise DataError(f"{metric}: no sample has a loss of this task")
    _aligned(first, second, metric)
    joint, sources = _statistic({task: joined(first[task], second[task]) for task in tasks}, metric)
    items = [(first[task], second[task]) for task in tasks]
    if metric != "loss":
        items = [(_of_stream(first, name), _of_stream(second, name))]
    sizes = [len(one) for one, _ in items]
    starts = np.repeat(2 * (np.cumsum(sizes) - sizes), sizes)
    one = starts + np.concatenate([np.arange(size) for size in sizes])
    return Pair(joint=joint, one=one, other=one + np.repeat(sizes, sizes), sources=sources[one], items=tuple(items))


def difference(one: Statistic, other: Statistic) -> Statistic:
    """Of the same samples; `Moments` where both are."""
    if isinstance(one, Moments) and isinstance(other, Moments):
        return one - other
    return lambda index: one(index) - other(index)


def estimate(found: Resamples) -> Estimate:
    """What resamples of whole groups say of a number: p is the greater of two, as an interval is the wider of two."""
    interval, p, pivots = interval_of(found), _NAN, found.pivots
    if not np.isnan(interval.low):
        is_constant = found.spread <= _ROUNDING * float(np.nanmax(np.abs(found.values), initial=abs(found.value)))
        p = _two_sided(found.value, 0.0 if is_constant else found.spread, found.num_groups - 1)
    if len(pivots) and not np.isnan(p):
        p = max(p, float((np.abs(pivots) >= abs(found.value) / found.error).mean()))
    return Estimate(mean=found.value, low=interval.low, high=interval.high, p=p, num=found.num_groups, over="groups")


def _with_losses(predictions: ByTask) -> dict[str, Predictions]:
    """A file has nothing else of pretext tasks; a task without any is none, as in `split/loss`."""
    found = {task: with_losses(item) for task, item in predictions.items()}
    return {task: item for task, item in found.items() if len(item) or not len(predictions[task])}


def _statistic(predictions: ByTask, metric: str) -> tuple[Statistic, npt.NDArray[np.int64]]:
    """A metric as a function of sample indices, and the source [N] of every sample that it speaks of."""
    if metric == "loss":
        return _loss_of_all(list(predictions.values()))
    name, _, measure = metric.partition("/")
    if name.partition("@")[0] not in predictions:
        raise DataError(f"{metric}: no sample has a loss of this task")
    item = _of_stream(predictions, name)
    if measure in LOSS_STATISTICS:
        return loss_statistic(item.losses.astype(np.float64), measure), item.sources
    if isinstance(item, PretextPredictions):
        raise DataError(f"{metric}: a file of predictions holds the losses of pretext tasks alone; give several seeds")
    return statistic_of(item, measure), item.sources


def _of_stream(predictions: ByTask, name: str) -> Predictions:
    """`task`, or `task@stream`."""
    task, at, stream = name.partition("@")
    return predictions[task].subset(predictions[task].streams == stream) if at else predictions[task]


def _loss_of_all(items: Sequence[Predictions]) -> tuple[Statistic, npt.NDArray[np.int64]]:
    """The mean over tasks of their mean losses; a sample of several tasks has one source in all of them."""
    losses = np.concatenate([item.losses.astype(np.float64) for item in items])
    tasks = np.repeat(np.arange(len(items)), [len(item) for item in items])
    names = [f"{stream}\n{group}" for item in items for stream, group in zip(item.streams, item.groups, strict=True)]
    member = tasks[:, None] == np.arange(len(items))
    values = np.concatenate([np.where(member, losses[:, None], 0.0), member], axis=1)  # [N, 2 K]: sums and counts by task

    def of(sums: Tensor) -> Tensor:
        totals, counts = sums.reshape(len(sums), 2, -1).unbind(dim=1)
        return share_of(totals, counts).mean(dim=-1)

    found = Moments(values=values, of=of, bounds=(0.0, np.inf))
    return found, np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


def _aligned(predictions: ByTask, baseline: ByTask, metric: str) -> ByTask:
    """The baseline, known to be of the same samples in the same order: both files are sorted. Errors: DataError."""
    tasks = predictions if metric == "loss" else [metric.partition("/")[0].partition("@")[0]]
    for task in tasks:
        one, other = predictions[task], baseline.get(task)
        if other is None or not _are_alike(one, other):
            raise DataError(f"task '{task}': the two runs did not predict the same samples, and cannot be paired")
    return baseline


def metric_statistic(predictions: ByTask, metric: str) -> tuple[Statistic, npt.NDArray[np.int64]]:
    """A metric as a function of sample indices, and the source [N] of every sample. Errors: DataError where it has none."""
    return _statistic(_with_losses(predictions), metric)


def require_same_samples(predictions: ByTask, baseline: ByTask, metric: str) -> None:
    """Errors: DataError where two runs predicted other samples in what a metric speaks of, as far as both have its tasks."""
    names = list(predictions) if metric == "loss" else [metric.partition("/")[0]]
    for name in names:
        task = name.partition("@")[0]
        if task not in predictions or task not in baseline:
            continue
        one, other = (_of_stream(item, name) for item in (predictions, baseline))
        if not _are_alike(one, other):
            num_alike = len(_samples(one) & _samples(other))
            raise DataError(
                f"task '{task}': the two runs did not predict the same samples ({len(one)} and {len(other)}, of them "
                f"{num_alike} the same), and their difference would be one of samples too"
            )


def _samples(predictions: Predictions) -> set[tuple[str, str]]:
    return set(zip(predictions.streams.tolist(), predictions.ids.tolist(), strict=True))


def _are_alike(one: Predictions, other: Predictions) -> bool:
    """Of the same samples in the same order."""
    return len(one) == len(other) and bool((one.ids == other.ids).all() and (one.streams == other.streams).all())


def holm(probabilities: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction. NaN, a comparison not made yet, counts as 1 in the family and stays NaN."""
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(probabilities, np.float64)
    if not len(values):
        return []
    corrected = multipletests(np.where(np.isnan(values), 1.0, values), method="holm")[1]
    return [float(value) for value in np.where(np.isnan(values), np.nan, corrected)]
