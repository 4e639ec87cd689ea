"""Two runs on the same samples, metric by metric: paired interval, paired tests, effect sizes, and Holm over the family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from mmtrain.errors import DataError
from mmtrain.evaluation.comparison import ByTask, Estimate, Pair, difference, estimate, holm, paired
from mmtrain.evaluation.decisions import Decisions, decisions
from mmtrain.evaluation.moments import Floats, Index, Moments
from mmtrain.evaluation.standards import FEW_GROUPS
from mmtrain.evaluation.statistics import resample

_NAN = float("nan")
LEVEL = 0.05  # below this, a corrected p is marked


class Difference(Protocol):
    """What scipy permutes."""

    def __call__(self, one: Index, other: Index, axis: int = -1) -> Floats:
        """[...] of [..., G] groups of the one run and of the other."""


@dataclass(frozen=True, kw_only=True)
class ComparedMetric:
    """One metric of a run beside that of the baseline, on the same samples; NaN where undefined.

    `difference`: run less baseline, its interval from a bootstrap of whole groups that both share; its p is that of the
    number over its deviation in the resamples, in Student's t. `p_permutation`: of swapping the two runs in whole groups;
    `p_holm` is that, corrected for every row of the comparison. `d_z`: Cohen's, of the differences of the samples' losses in
    the task (mean over deviation; below 0 where the run has the lower losses). `decisions`: of a task with classes.
    """

    run: str
    metric: str  # task/name
    value: Estimate
    baseline: Estimate
    difference: Estimate
    p_permutation: float
    p_holm: float = _NAN
    d_z: float
    decisions: Decisions | None
    num_samples: int

    @property
    def is_different(self) -> bool:
        return self.p_holm < LEVEL

    @property
    def has_few_groups(self) -> bool:
        return self.difference.num < FEW_GROUPS


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Runs against a baseline. `notes`: what could not be compared, and why."""

    split: str
    baseline: str
    runs: tuple[str, ...]  # without the baseline
    rows: tuple[ComparedMetric, ...]
    notes: tuple[str, ...]


def compare_runs(
    predictions: Mapping[str, ByTask],
    *,
    baseline: str,
    metrics: Sequence[str],
    split: str,
    num_resamples: int = 1000,
    seed: int = 0,
) -> RunComparison:
    """Every run (by name, as `read_predictions` gives it) against the one called `baseline`, in each of `metrics`.

    A metric that cannot be compared, as where a run has other samples, is a note and no row; the family that Holm corrects
    for are the rows.
    """
    rows, notes = [], []
    others = [name for name in predictions if name != baseline]
    for metric in metrics:
        for name in others:
            try:
                row = compare_metric(
                    predictions[name], predictions[baseline], metric, run=name, num_resamples=num_resamples, seed=seed
                )
                rows.append(row)
            except DataError as error:
                notes.append(f"{name}, {metric}: {error}")
    corrected = holm([row.p_permutation for row in rows])
    rows = [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]
    return RunComparison(split=split, baseline=baseline, runs=tuple(others), rows=tuple(rows), notes=tuple(notes))


def compare_metric(
    one: ByTask, other: ByTask, metric: str, *, run: str, num_resamples: int = 1000, seed: int = 0
) -> ComparedMetric:
    """Errors: DataError where the two did not predict the same samples, ConfigError for a metric that the task lacks."""
    pair = paired(one, other, metric)
    first, second = pair.of(pair.one), pair.of(pair.other)
    found = [
        estimate(resample(statistic, pair.sources, num_resamples=num_resamples, seed=seed))
        for statistic in (first, second, difference(first, second))
    ]
    losses = np.concatenate([(run_item.losses - own.losses).astype(np.float64) for run_item, own in pair.items])
    return ComparedMetric(
        run=run,
        metric=metric,
        value=found[0],
        baseline=found[1],
        difference=found[2],
        p_permutation=permutation_test(pair, num_resamples=10 * num_resamples, seed=seed),
        d_z=cohens_d_z(losses),
        decisions=decisions(*pair.items[0]) if len(pair.items) == 1 else None,
        num_samples=len(pair.sources),
    )


def cohens_d_z(differences: npt.NDArray[np.float64]) -> float:
    """Mean over deviation (N - 1) of paired differences [N]; NaN without spread."""
    deviation = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    return float(np.mean(differences)) / deviation if deviation > 0 else _NAN


def permutation_test(pair: Pair, *, num_resamples: int = 10_000, seed: int = 0) -> float:
    """p of the difference of a metric of two runs, if nobody could tell whose predictions of a group are whose.

    The runs are swapped in whole groups (scipy's `permutation_test` of pairs: all 2^G ways where they are no more than
    `num_resamples`, else as many at random), two-sided. Statistics that are no `Moments` are resampled a tenth as often.
    NaN where there are fewer than two groups, or the difference is undefined.
    """
    from scipy.stats import permutation_test as permute

    names, codes = np.unique(pair.sources, return_inverse=True)
    num_groups = len(names)
    if num_groups < 2:
        return _NAN
    if isinstance(pair.joint, Moments):
        statistic = _of_sums(pair, pair.joint, codes, num_groups)
    else:
        num_resamples, statistic = num_resamples // 10, _of_samples(pair, codes, num_groups)
    whole = (np.arange(num_groups), num_groups + np.arange(num_groups))  # the groups of the one run, and of the other
    if np.isnan(statistic(*whole)):
        return _NAN

    def told(one: Index, other: Index, axis: int = -1) -> Floats:
        return np.nan_to_num(statistic(one, other, axis), nan=np.inf)  # what is undefined is counted as no less extreme

    found = permute(
        whole,
        told,
        permutation_type="samples",
        vectorized=True,
        n_resamples=num_resamples,
        batch=max(1_000_000 // num_groups, 1),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def _of_sums(pair: Pair, joint: Moments, codes: Index, num_groups: int) -> Difference:
    """The difference as a function of which groups [..., G] are whose, numbered 0 .. G - 1 and G .. 2 G - 1."""
    sums = np.concatenate(
        [replace(joint, values=joint.values[places]).group_sums(codes, num_groups) for places in (pair.one, pair.other)]
    )
    whole = sums.sum(axis=0)

    def statistic(one: Index, other: Index, axis: int = -1) -> Floats:  # noqa: ARG001 - the other is what is left
        swapped = (one >= num_groups).astype(np.float64)  # [..., G]
        taken = sums[:num_groups].sum(axis=0) + swapped @ (sums[num_groups:] - sums[:num_groups])
        flat = taken.reshape(-1, taken.shape[-1])
        values = joint.of(torch.from_numpy(flat)) - joint.of(torch.from_numpy(whole - flat))
        return values.numpy().reshape(taken.shape[:-1])

    return statistic


def _of_samples(pair: Pair, codes: Index, num_groups: int) -> Difference:
    """The same, for a statistic that has to see the samples."""

    def statistic(one: Index, other: Index, axis: int = -1) -> Floats:  # noqa: ARG001
        rows = np.atleast_2d(one)
        values = np.empty(len(rows))
        for number, row in enumerate(rows.reshape(len(rows), -1)):
            is_swapped = (row >= num_groups)[codes]
            mine, theirs = np.where(is_swapped, pair.other, pair.one), np.where(is_swapped, pair.one, pair.other)
            values[number] = pair.joint(mine) - pair.joint(theirs)
        return values.reshape(one.shape[:-1])

    return statistic
