"""What the variants of a matrix came to, and how each differs from the baseline: rows of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from mmtrain.ablation.plan import Plan, PlannedRun, Variant
from mmtrain.ablation.results import Cost, cost_of, metrics_of
from mmtrain.errors import DataError
from mmtrain.evaluation.comparing import LEVEL
from mmtrain.evaluation.comparison import Estimate, holm, over_groups, over_seeds, require_same_samples
from mmtrain.evaluation.crossed import (
    MIN_SEEDS,
    Difference,
    Sampled,
    over_groups_alone,
    over_seeds_alone,
    over_seeds_and_groups,
    sampled,
)
from mmtrain.evaluation.metrics import is_lower_better, metric_bounds
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.evaluation.predictions import Predictions, TaskPredictions

_NAN = float("nan")
_SAME = 1e-3  # of a metric: predictions that give another one than the log were made from other weights
Files = tuple[tuple[Path, int], ...]


@dataclass(frozen=True, kw_only=True)
class VariantRow:
    """One variant. `values`: the metric of each seed in `seeds`, NaN where it is undefined; both grow as runs finish."""

    variant: Variant
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    estimate: Estimate | None  # None: no run of it has the metric yet
    difference: Difference | None  # to the baseline; None for itself, or where nothing can be paired yet
    p_holm: float = _NAN
    also: Mapping[str, float] = field(default_factory=dict)  # means over the seeds
    cost: Cost | None = None  # means over the seeds

    @property
    def is_different(self) -> bool:
        return self.p_holm < LEVEL

    @property
    def num_seeds(self) -> int:
        """Those that the metric is defined for."""
        return sum(bool(np.isfinite(value)) for value in self.values)


def variant_rows(plan: Plan, finished: Sequence[PlannedRun], *, split: str = "val") -> tuple[list[VariantRow], list[str]]:
    """A row for every variant, in the plan's order, from those of its runs that are finished; and what has to be said.

    Over seeds, and differences over seeds and the groups of the samples; of a matrix with one seed over the groups alone.
    """
    metric, *also = (f"{split}/{name.partition('/')[2]}" for name in (plan.matrix.metric, *plan.matrix.also))
    found = {run: metrics_of(run, split) for run in finished}
    runs = {variant: [run for run in plan.of(variant) if run in found] for variant in plan.variants}
    values = {run: metrics.get(metric, _NAN) for run, metrics in found.items()}
    baseline = {run.seed: run for run in runs[plan.variants[0]] if np.isfinite(values[run])}
    rows, notes = [], []
    for variant in plan.variants:
        own = runs[variant]
        defined = {run.seed: run for run in own if np.isfinite(values[run])}
        estimate, difference = _over_seeds([values[run] for run in defined.values()], metric), None
        try:
            if defined and len(plan.matrix.seeds) == 1:
                estimate = _over_groups(*_files([*defined.values()], metric))
            if not variant.is_baseline:
                is_single = len(plan.matrix.seeds) == 1
                difference = _difference(defined, baseline, values, metric, is_single=is_single)
        except DataError as error:
            notes.append(f"{variant.name} has no interval, or is not compared: {error}")
        rows.append(
            VariantRow(
                variant=variant,
                seeds=tuple(run.seed for run in own),
                values=tuple(values[run] for run in own),
                estimate=estimate,
                difference=difference,
                also={name: _mean([found[run].get(name, _NAN) for run in own]) for name in also},
                cost=_mean_cost([cost_of(run) for run in own]),
            )
        )
    return _corrected(rows), notes


def best_row(rows: Sequence[VariantRow], metric: str) -> VariantRow | None:
    """The row with the best mean of the metric; None where none has one."""
    known = [row for row in rows if row.estimate is not None]
    sign = -1.0 if is_lower_better(metric.rpartition("/")[2]) else 1.0
    return max(known, key=lambda row: sign * _mean(row.values), default=None)


def _corrected(rows: Sequence[VariantRow]) -> list[VariantRow]:
    """Holm's correction over every comparison of the matrix, also those that are out."""
    others = [row for row in rows if not row.variant.is_baseline]
    probabilities = [_NAN if row.difference is None else row.difference.p for row in others]
    corrected = dict(zip((row.variant for row in others), holm(probabilities), strict=True))
    return [replace(row, p_holm=corrected.get(row.variant, _NAN)) for row in rows]


def _over_seeds(values: Sequence[float], metric: str) -> Estimate | None:
    """The mean, and its interval where there are seeds enough for one."""
    if not values:
        return None
    found = over_seeds(values, bounds=metric_bounds(metric.rpartition("/")[2]))
    return found if len(values) >= MIN_SEEDS else replace(found, low=_NAN, high=_NAN, p=_NAN)


def _difference(
    runs: Mapping[int, PlannedRun],
    baseline: Mapping[int, PlannedRun],
    values: Mapping[PlannedRun, float],
    metric: str,
    *,
    is_single: bool,
) -> Difference | None:
    """Of the seeds that both have; None where there is none. Errors: DataError where a pair has not the same samples."""
    pairs = [(runs[seed], baseline[seed]) for seed in runs if seed in baseline]
    for one, other in pairs:
        _require_same_samples(one, other, metric)
    if not pairs:
        return None
    if is_single:
        return _difference_over_groups(*_files(pairs[0], metric))
    if len(pairs) >= MIN_SEEDS:
        own, others = ([_sampled(run, values[run], metric) for run in side] for side in zip(*pairs, strict=True))
        if None not in own and None not in others:
            return over_seeds_and_groups([item for item in own if item], [item for item in others if item])
    return over_seeds_alone([values[one] - values[other] for one, other in pairs])


def _sampled(run: PlannedRun, value: float, metric: str) -> Sampled | None:
    """What the run's predictions say in resamples; None where there are none, or not of this metric.

    Errors: DataError where they were made from other weights than the metric of the log, `value`.
    """
    files, name = _files([run], metric)
    if not files[0][1]:
        return None
    try:
        found = _resampled(files, name)
    except DataError:  # a rank of a pretext task, say, of which the file has losses alone
        return None
    if not np.isclose(found.value, value, rtol=_SAME, atol=_SAME):
        raise DataError(
            f"{files[0][0]} gives {metric} {found.value:.4g}, the run's best evaluation gave {value:.4g}: it was made from "
            f"other weights; write it anew with `mmtrain evaluate {run.folder.path} --split {metric.partition('/')[0]}`"
        )
    return found


@cache
def _resampled(files: Files, metric: str) -> Sampled:
    return sampled(_read(files[0][0]), metric)


@cache
def _difference_over_groups(files: Files, metric: str) -> Difference:
    own, other = (_read(file) for file, _ in files)
    return over_groups_alone(own, other, metric)


def _read(file: Path) -> dict[str, Predictions]:
    """As the run's log has measured them: `mmtrain evaluate` writes a threshold of validation into the same file, which some
    variants may have and others not.
    """
    return {
        task: replace(item, temperature=None, threshold=0.5) if isinstance(item, TaskPredictions) else item
        for task, item in read_predictions(file).items()
    }


def _require_same_samples(one: PlannedRun, other: PlannedRun, metric: str) -> None:
    """Errors: DataError. Where a run has no predictions, nothing can be said of its samples."""
    files, name = _files([one, other], metric)
    if all(written for _, written in files):
        _compare_samples(files, name)


@cache
def _compare_samples(files: Files, metric: str) -> None:
    one, other = (_read(file) for file, _ in files)
    require_same_samples(one, other, metric)


def _files(runs: Sequence[PlannedRun], metric: str) -> tuple[Files, str]:
    """The runs' predictions, each with when it was written (0: never), and the metric's name in them."""
    split, _, name = metric.partition("/")
    files = [run.folder.predictions(split) for run in runs]
    return tuple((file, file.stat().st_mtime_ns if file.is_file() else 0) for file in files), name


@cache
def _over_groups(files: Files, metric: str) -> Estimate:
    """Of one run. Kept as long as no file is written anew, since the table is made again behind every run."""
    return over_groups(_read(files[0][0]), metric)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else _NAN


def _mean_cost(costs: Sequence[Cost]) -> Cost | None:
    if not costs:
        return None
    return Cost(**{name: _mean([getattr(cost, name) for cost in costs]) for name in vars(costs[0])})
