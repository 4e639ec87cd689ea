"""What the variants of a matrix came to, and how each differs from the baseline: rows of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from mmtrain.ablation.plan import Plan, PlannedRun, Variant
from mmtrain.ablation.results import Cost, cost_of, metrics_of
from mmtrain.errors import DataError
from mmtrain.evaluation.comparison import Estimate, holm, over_groups, over_seeds, require_same_samples
from mmtrain.evaluation.metrics import is_lower_better
from mmtrain.evaluation.prediction_file import read_predictions

_NAN = float("nan")
Files = tuple[tuple[Path, int], ...]
LEVEL = 0.05  # below this, a corrected p is marked


@dataclass(frozen=True, kw_only=True)
class VariantRow:
    """One variant. `values`: the metric of each seed in `seeds`, NaN where it is undefined; both grow as runs finish."""

    variant: Variant
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    estimate: Estimate | None  # None: no run of it has the metric yet
    difference: Estimate | None  # to the baseline; None for itself, or where nothing can be paired yet
    p_holm: float = _NAN
    also: Mapping[str, float] = field(default_factory=dict)  # means over the seeds
    cost: Cost | None = None  # means over the seeds

    @property
    def is_different(self) -> bool:
        return self.p_holm < LEVEL


def variant_rows(plan: Plan, finished: Sequence[PlannedRun], *, split: str = "val") -> tuple[list[VariantRow], list[str]]:
    """A row for every variant, in the plan's order, from those of its runs that are finished; and what has to be said.

    Over seeds where a variant (for differences: it and the baseline) has the metric for two or more, else over the groups
    of the samples that its one run predicted.
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
        estimate, difference = over_seeds([values[run] for run in defined.values()]) if defined else None, None
        try:
            if len(defined) == 1:
                estimate = _of_groups(*defined.values(), metric=metric)
            if not variant.is_baseline:
                difference = _difference(defined, baseline, values, metric)
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


def _difference(
    runs: Mapping[int, PlannedRun], baseline: Mapping[int, PlannedRun], values: Mapping[PlannedRun, float], metric: str
) -> Estimate | None:
    """Of the seeds that both have. Errors: DataError where the samples of a pair are not the same."""
    seeds = [seed for seed in runs if seed in baseline]
    for seed in seeds:
        _require_same_samples(runs[seed], baseline[seed], metric)
    if len(seeds) == 1:
        return _of_groups(runs[seeds[0]], baseline[seeds[0]], metric=metric)
    return over_seeds([values[runs[seed]] - values[baseline[seed]] for seed in seeds]) if seeds else None


def _require_same_samples(one: PlannedRun, other: PlannedRun, metric: str) -> None:
    """Errors: DataError. Where a run has no predictions, nothing can be said of its samples."""
    files, name = _files([one, other], metric)
    if all(written for _, written in files):
        _compare_samples(files, name)


@cache
def _compare_samples(files: Files, metric: str) -> None:
    one, other = (read_predictions(file) for file, _ in files)
    require_same_samples(one, other, metric)


def _files(runs: Sequence[PlannedRun], metric: str) -> tuple[Files, str]:
    """The runs' predictions, each with when it was written (0: never), and the metric's name in them."""
    split, _, name = metric.partition("/")
    files = [run.folder.predictions(split) for run in runs]
    return tuple((file, file.stat().st_mtime_ns if file.is_file() else 0) for file in files), name


def _of_groups(*runs: PlannedRun, metric: str) -> Estimate:
    """Of one run, or of one less another. Errors: DataError where predictions are missing, or not of the same samples."""
    return _over_groups(*_files(runs, metric))


@cache
def _over_groups(files: Files, metric: str) -> Estimate:
    """Kept as long as no file is written anew, since the table is made again behind every run."""
    predictions = [read_predictions(file) for file, _ in files]
    return over_groups(predictions[0], metric, baseline=predictions[1] if len(predictions) > 1 else None)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else _NAN


def _mean_cost(costs: Sequence[Cost]) -> Cost | None:
    if not costs:
        return None
    return Cost(**{name: _mean([getattr(cost, name) for cost in costs]) for name in vars(costs[0])})
