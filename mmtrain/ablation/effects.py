"""What each value of an axis comes to over the rest of a matrix, and what two axes come to together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmtrain.ablation.plan import Plan
from mmtrain.ablation.rows import VariantRow
from mmtrain.evaluation.crossed import MIN_SEEDS
from mmtrain.evaluation.fold_table import t_interval
from mmtrain.evaluation.metrics import metric_bounds

Found = Mapping[tuple[str, ...], Mapping[int, float]]  # values of a variant -> seed -> metric


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The mean of a value of an axis over the combinations of the other axes that all of its values have.

    The interval is Student's t over seeds, cut at what the metric can be; NaN for fewer than three.
    """

    axis: str
    value: str
    mean: float
    low: float
    high: float
    num_seeds: int
    num_combinations: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Means [rows][columns] of two axes over seeds and the other axes, and what is left of each without main effects."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_axis: str
    column_axis: str
    means: Sequence[Sequence[float]]
    interactions: Sequence[Sequence[float]]


def main_effects(plan: Plan, rows: Sequence[VariantRow]) -> list[Effect]:
    """Of every axis that has two values with runs of equal seeds in equal combinations; the others are left out."""
    found = _values(rows)
    return [effect for axis in plan.matrix.axes for effect in _effects(plan, axis, found)]


def _values(rows: Sequence[VariantRow]) -> Found:
    pairs = ((row.variant.values, zip(row.seeds, row.values, strict=True)) for row in rows)
    return {values: {seed: value for seed, value in runs if np.isfinite(value)} for values, runs in pairs}


def _effects(plan: Plan, axis: str, found: Found) -> list[Effect]:
    place = list(plan.matrix.axes).index(axis)
    planned = {variant.values for variant in plan.variants}
    names = [name for name in plan.matrix.axes[axis] if any(values[place] == name for values in planned)]
    others = dict.fromkeys((*values[:place], *values[place + 1 :]) for values in planned)
    blocks = [[(*rest[:place], name, *rest[place:]) for name in names] for rest in others]
    whole = [block for block in blocks if planned.issuperset(block)]
    if len(names) < 2 or not whole:
        return []
    seeds = [seed for seed in plan.matrix.seeds if all(seed in found.get(key, {}) for block in whole for key in block)]
    effects, bounds = [], metric_bounds(plan.matrix.metric.rpartition("/")[2])
    for number, name in enumerate(names):
        means = [float(np.mean([found[block[number]][seed] for block in whole])) for seed in seeds]
        low, high = t_interval(means, bounds=bounds) if len(means) >= MIN_SEEDS else (np.nan, np.nan)
        mean = float(np.mean(means)) if means else np.nan
        effects.append(
            Effect(axis=axis, value=name, mean=mean, low=low, high=high, num_seeds=len(means), num_combinations=len(whole))
        )
    return effects if seeds else []


def grid_of(plan: Plan, rows: Sequence[VariantRow], row_axis: str, column_axis: str) -> Grid | None:
    """None where a combination of the two has no run yet, or an axis has one value."""
    axes = list(plan.matrix.axes)
    first, second = axes.index(row_axis), axes.index(column_axis)
    found = _values(rows)
    known = {(values[first], values[second]) for values in found}
    sides = [
        [name for name in plan.matrix.axes[axis] if any(pair[side] == name for pair in known)]
        for side, axis in enumerate((row_axis, column_axis))
    ]
    cells = np.array([[_mean(found, {first: row, second: column}) for column in sides[1]] for row in sides[0]])
    if min(map(len, sides)) < 2 or np.isnan(cells).any():
        return None
    left = cells - cells.mean(axis=0, keepdims=True) - cells.mean(axis=1, keepdims=True) + cells.mean()
    return Grid(
        rows=tuple(sides[0]),
        columns=tuple(sides[1]),
        row_axis=row_axis,
        column_axis=column_axis,
        means=cells.tolist(),
        interactions=left.tolist(),
    )


def _mean(found: Found, chosen: Mapping[int, str]) -> float:
    """Over the variants with these values, of their means over seeds; NaN where one has none."""
    fitting = [runs for values, runs in found.items() if all(values[place] == name for place, name in chosen.items())]
    if not fitting or not all(fitting):
        return float("nan")
    return float(np.mean([np.mean(list(runs.values())) for runs in fitting]))
