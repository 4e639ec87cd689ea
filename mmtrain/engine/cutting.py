"""Where a slice of a global batch is cut, so that no micro-batch is larger than a budget once it is padded."""

from bisect import bisect_left, insort

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def padded_size(lengths: Integers) -> int:
    """Positions of a batch of samples whose M modalities have these lengths [n, M]: n x the longest, summed over modalities.

    A modality that all of them lack is padded to one row.
    """
    return len(lengths) * int(np.maximum(lengths.max(axis=0), 1).sum())


def fewest(lengths: Integers, *, budget: int, most: int) -> int:
    """How many micro-batches samples of these lengths [n, M] need, of at most `budget` positions and `most` samples each.

    A sample that is larger than the budget by itself makes a micro-batch of its own.
    """
    return len(_ends(lengths[_by_length(lengths)], budget, most))


def cut(lengths: Integers, *, budget: int, most: int, count: int) -> list[Integers]:
    """Places of the samples in `count` micro-batches, or as many as there are samples; the longest samples come first.

    `count`: `fewest` of them or more. Samples of like length (summed over modalities; ties go by place) stand together, and
    the largest micro-batch is as small as `count` allows.
    """
    order = _by_length(lengths)
    ordered = lengths[order]
    size = bisect_left(range(budget), True, key=lambda size: len(_ends(ordered, size, most)) <= count)
    ends = _ends(ordered, size, most)
    while len(ends) < min(count, len(order)):
        rows = np.diff([0, *ends])
        largest = int(rows.argmax())
        insort(ends, ends[largest] - int(rows[largest]) // 2)
    return [np.sort(order[end - rows : end]) for end, rows in zip(ends, np.diff([0, *ends]).tolist(), strict=True)]


def _by_length(lengths: Integers) -> Integers:
    return np.argsort(-lengths.sum(axis=1), kind="stable")


def _ends(lengths: Integers, budget: int, most: int) -> list[int]:
    """Where stretches of `lengths` end that are each as long as budget and number allow, from the first sample on."""
    ends, start = [], 0
    while start < len(lengths):
        widths = np.maximum(np.maximum.accumulate(lengths[start : start + most]), 1).sum(axis=1)
        sizes = widths * np.arange(1, len(widths) + 1)
        start += max(int(np.searchsorted(sizes, budget, side="right")), 1)
        ends.append(start)
    return ends
