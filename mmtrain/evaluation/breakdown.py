"""A split taken apart: loss and main metric of every task for each stream and each group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmtrain.evaluation.predictions import Predictions, with_losses
from mmtrain.evaluation.primary import primary_statistic


@dataclass(frozen=True, kw_only=True)
class Part:
    """The samples of a task that are of one stream, or of one group of it."""

    stream: str
    group: str | None  # None: all of the stream's
    num_samples: int
    loss: float  # the mean
    loss_std: float  # divided by N
    value: float  # the main metric; NaN where it is not defined, as where all labels are alike


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """One task. The groups of the highest mean loss come first, then by stream and name; streams by name."""

    task: str
    metric: str
    streams: tuple[Part, ...]
    groups: tuple[Part, ...]


def break_down(item: Predictions) -> Breakdown:
    """Of a pretext task, only samples that have a loss. Errors: DataError for predictions that are NaN."""
    item = with_losses(item)
    metric, statistic = primary_statistic(item)
    losses = item.losses.astype(np.float64)

    def parts(names: Sequence[tuple[str, str | None]]) -> list[Part]:
        """One for each different name of a sample, [N]."""
        numbers = {name: number for number, name in enumerate(sorted(set(names), key=str))}
        codes = np.array([numbers[name] for name in names], np.int64)
        order = np.argsort(codes, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(order) else []
        return [
            Part(
                stream=stream,
                group=group,
                num_samples=len(index),
                loss=float(losses[index].mean()),
                loss_std=float(losses[index].std()),
                value=statistic(index),
            )
            for (stream, group), index in zip(numbers, members, strict=True)
        ]

    streams = item.streams.tolist()
    with np.errstate(invalid="ignore"):  # of infinite losses the deviation is NaN
        groups = parts(list(zip(streams, item.groups.tolist(), strict=True)))
        whole = parts([(stream, None) for stream in streams])
    groups.sort(key=lambda part: -part.loss)
    return Breakdown(task=item.task, metric=metric, streams=tuple(whole), groups=tuple(groups))
