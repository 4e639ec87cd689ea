"""What the folds of a cross-validation give together: mean and interval of every metric over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmtrain.evaluation.metrics import metric_bounds
from mmtrain.evaluation.table import ALL, TextTable, digits


@dataclass(frozen=True, kw_only=True)
class FoldRow:
    """One metric of one task on one stream over the folds; task and stream are `all` for the loss of all tasks."""

    task: str
    stream: str
    metric: str
    mean: float
    low: float
    high: float
    values: tuple[float, ...]  # of each fold in turn; NaN where it is undefined there

    @property
    def num_defined(self) -> int:
        return int(np.isfinite(self.values).sum())


def t_interval(
    values: Sequence[float], confidence: float = 0.95, *, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float]:
    """mean -+ t s / sqrt(K), with t of K - 1 degrees of freedom and s the deviation over K - 1; NaN for K < 2.

    Cut at `bounds`, between which the mean lies, so that what is cut off never held it and the coverage stays.
    """
    count = len(values)
    if count < 2:
        return float("nan"), float("nan")
    from scipy.special import stdtrit

    reach = float(stdtrit(count - 1, (1 + confidence) / 2)) * float(np.std(values, ddof=1)) / count**0.5
    mean = float(np.mean(values))
    return max(mean - reach, bounds[0]), min(mean + reach, bounds[1])


def fold_rows(folds: Sequence[Mapping[str, float]], streams: Mapping[str, Sequence[str]]) -> list[FoldRow]:
    """A row for every metric `val/...` of any fold, folds without it left out. `streams`: by task, those that have it."""
    rows = []
    for name in dict.fromkeys(name for fold in folds for name in fold if name.startswith("val/")):
        values = tuple(fold.get(name, float("nan")) for fold in folds)
        defined = [value for value in values if np.isfinite(value)]
        _, task, metric = name.split("/", 2) if name.count("/") > 1 else ("", ALL, name.partition("/")[2])
        low, high = t_interval(defined, bounds=metric_bounds(metric))
        task, at, stream = task.partition("@")
        owners = streams.get(task, ())
        rows.append(
            FoldRow(
                task=task,
                stream=stream if at else (owners[0] if len(owners) == 1 else ALL),
                metric=metric,
                mean=float(np.mean(defined)) if defined else float("nan"),
                low=low,
                high=high,
                values=values,
            )
        )
    return rows


def fold_table(rows: Sequence[FoldRow], *, title: str) -> TextTable:
    """Per task, stream and metric: mean and 95 % interval over folds, the least and the greatest fold."""
    header = ("task", "stream", "metric", "mean", "95 % interval", "least", "greatest", "folds")
    drawn = []
    for row in rows:
        defined = [value for value in row.values if np.isfinite(value)]
        least, greatest = (min(defined), max(defined)) if defined else (float("nan"), float("nan"))
        interval = f"[{digits(row.low)}, {digits(row.high)}]"
        ends = (digits(row.mean), interval, digits(least), digits(greatest))
        drawn.append((row.task, row.stream, row.metric, *ends, f"{row.num_defined} of {len(row.values)}"))
    return TextTable(title, header, tuple(drawn), 3)
