"""The tables that a run ends with, as rows of numbers and as text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.evaluation.baselines import baseline
from mmtrain.evaluation.metrics import LOSS_STATISTICS, is_lower_better, loss_statistics, metrics
from mmtrain.evaluation.predictions import Predictions, PretextPredictions, TaskPredictions, with_losses
from mmtrain.evaluation.pretext_metrics import pretext_baseline, pretext_statistic, primary_metric
from mmtrain.evaluation.reliability import Calibration
from mmtrain.evaluation.resampling import loss_statistic, statistic_of
from mmtrain.evaluation.standards import FEW_GROUPS, FEWEST_GROUPS
from mmtrain.evaluation.statistics import grouped_bootstrap

Labels = npt.NDArray[np.float64]
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One metric of one task on one stream, or on all of its streams together."""

    task: str
    stream: str
    metric: str
    value: float
    low: float
    high: float
    baseline: float
    num_samples: int
    num_groups: int

    @property
    def has_few_groups(self) -> bool:
        """True where the interval is of so few groups that a table says it."""
        return self.num_groups < FEW_GROUPS

    @property
    def beats_baseline(self) -> bool:
        """True where the whole interval is on the better side of the baseline, and of enough groups to say so."""
        if self.num_groups < FEWEST_GROUPS:
            return False
        return self.high < self.baseline if is_lower_better(self.metric) else self.low > self.baseline


@dataclass(frozen=True)
class ShareRow:
    """One stream's part of training."""

    stream: str
    num_samples: int  # of its training split
    share: float  # of all drawn samples


@dataclass(frozen=True, kw_only=True)
class GapRow:
    """One task in training and in validation."""

    task: str
    metric: str
    train_loss: float
    val_loss: float
    train_value: float
    val_value: float


def task_rows(
    predictions: Mapping[str, Predictions],
    train_labels: Mapping[str, Mapping[str, Labels]],
    *,
    chosen: Mapping[str, Sequence[str]] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Iterator[TaskRow]:
    """Rows for every task: all its streams together, then each of them where there are several.

    `train_labels`: labels by task and stream, for the baselines; a stream that was not trained on is held against the labels
    of all; a pretext task has none, and is held against rankings at random. `chosen`: metrics by task instead of the primary
    one of its kind.
    """
    for task, item in predictions.items():
        names = sorted(set(item.streams.tolist()))
        trained = train_labels.get(task, {})
        together = np.concatenate([*trained.values(), *([] if trained else [np.zeros(0)])])
        for metric in (chosen or {}).get(task, (primary_metric(item),)):
            stream = ALL if len(names) != 1 else names[0]
            yield _task_row(item, stream, metric, together, num_resamples=num_resamples, seed=seed)
            for name in names if len(names) > 1 else ():
                part = item.subset(item.streams == name)
                yield _task_row(part, name, metric, trained.get(name, together), num_resamples=num_resamples, seed=seed)


def _task_row(item: Predictions, stream: str, metric: str, train: Labels, *, num_resamples: int, seed: int) -> TaskRow:
    if metric in LOSS_STATISTICS:
        item = with_losses(item)
        statistic, chance = loss_statistic(item.losses.astype(np.float64), metric), float("nan")
        value = dict(loss_statistics(item.losses))[metric]
    elif isinstance(item, PretextPredictions):
        statistic = pretext_statistic(item, metric)
        value, chance = statistic(np.arange(len(item))), pretext_baseline(item, metric)
    else:
        statistic = statistic_of(item, metric)
        value = dict(metrics(item))[metric]
        chance = baseline(metric, kind=item.kind, classes=item.classes, train=train, test=item.labels)
    interval = grouped_bootstrap(statistic, item.sources, num_resamples=num_resamples, seed=seed)
    return TaskRow(
        task=item.task,
        stream=stream,
        metric=metric,
        value=value,
        low=interval.low,
        high=interval.high,
        baseline=chance,
        num_samples=len(item),
        num_groups=interval.num_groups,
    )


@dataclass(frozen=True)
class TextTable:
    """Text in rows and columns, drawn for a terminal or for a file."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_names: int  # leading columns that hold names; the others hold numbers and stand to the right

    def rich(self) -> Any:  # rich.table.Table
        """For a terminal."""
        from rich.table import Table  # slow to import

        table = Table(title=self.title)
        for number, name in enumerate(self.header):
            table.add_column(name, justify="left" if number < self.num_names else "right", overflow="fold")  # never cut
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a file: a heading and a table that reads as plain text too."""
        widths = [max(2, *map(len, column)) for column in zip(self.header, *self.rows, strict=True)]  # "-:" says right

        def line(cells: Sequence[str]) -> str:
            pairs = enumerate(zip(cells, widths, strict=True))
            drawn = (cell.ljust(width) if number < self.num_names else cell.rjust(width) for number, (cell, width) in pairs)
            return f"| {' | '.join(drawn)} |"

        rule = ["-" * width if number < self.num_names else "-" * (width - 1) + ":" for number, width in enumerate(widths)]
        return "\n".join([f"## {self.title}", "", line(self.header), line(rule), *map(line, self.rows), ""])


def summary_table(rows: Sequence[TaskRow], *, title: str = "Test") -> TextTable:
    """Per task and stream: metric, value with its 95 % interval, baseline; * marks an interval wholly better than it, and
    "few" one over fewer than 30 groups.
    """
    header = ("task", "stream", "metric", "value", "95 % interval", "baseline", "samples", "groups")
    drawn = (
        (
            row.task,
            row.stream,
            row.metric,
            digits(row.value),
            f"[{digits(row.low)}, {digits(row.high)}]",
            digits(row.baseline) + (" *" if row.beats_baseline else "  "),
            str(row.num_samples),
            ("few: " if row.has_few_groups else "") + str(row.num_groups),
        )
        for row in rows
    )
    return TextTable(title, header, tuple(drawn), 3)


def calibration_table(predictions: Sequence[TaskPredictions], found: Mapping[str, Calibration]) -> TextTable:
    """Per task that is no regression: temperature, threshold, and how far its probabilities are off before and after."""
    drawn = []
    for item in predictions:
        before, after = found[item.task].before, found[item.task].after
        threshold = float("nan") if item.kind == "multiclass" else item.threshold
        after_ece, after_brier = (after.ece, after.brier) if after is not None else (float("nan"),) * 2
        temperature = float("nan") if item.temperature is None else item.temperature
        numbers = (temperature, threshold, before.ece, after_ece, before.brier, after_brier)
        drawn.append((item.task, *map(digits, numbers)))
    header = ("task", "temperature", "threshold", "ECE", "scaled", "Brier", "scaled")
    return TextTable("Calibration, fitted on validation", header, tuple(drawn), 1)


def loss_table(losses: Mapping[str, Mapping[str, float]]) -> TextTable:
    """Per task what `loss_statistics` says of its samples."""
    header = ("task", *LOSS_STATISTICS)
    drawn = tuple((task, *(digits(values[name]) for name in LOSS_STATISTICS)) for task, values in losses.items())
    return TextTable("Loss of a sample", header, drawn, 1)


def shares_table(rows: Sequence[ShareRow], *, title: str = "Shares of the training batches") -> TextTable:
    """Per stream: training samples, and its share of all samples drawn."""
    drawn = tuple((row.stream, str(row.num_samples), f"{row.share:.1%}") for row in rows)
    return TextTable(title, ("stream", "samples", "share of batches"), drawn, 1)


def gap_table(rows: Sequence[GapRow], *, title: str = "Training against validation") -> TextTable:
    """Per task: loss and primary metric on training and on validation samples."""
    header = ("task", "loss train", "loss val", "metric", "train", "val")
    drawn = tuple(
        (
            row.task,
            digits(row.train_loss),
            digits(row.val_loss),
            row.metric,
            digits(row.train_value),
            digits(row.val_value),
        )
        for row in rows
    )
    return TextTable(title, header, drawn, 1)


def digits(value: float) -> str:
    """A number of a table; what is not defined is a dash."""
    return "-" if np.isnan(value) else f"{value:.3f}"
