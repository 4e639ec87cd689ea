"""Metrics of a ranking in one pass over counts, fast enough to be computed for every bootstrap resample."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


class Ranking:
    """Scores against 0/1 labels, both [N], sorted once; each metric of any resample of them then costs O(N).

    Tied scores count as one threshold. Undefined values (no positive, or no negative) are NaN.
    """

    def __init__(self, labels: Floats, scores: Floats) -> None:
        distinct, codes = np.unique(-np.asarray(scores), return_inverse=True)  # code 0 = the highest score
        self._num_thresholds = len(distinct)
        self._codes = codes * 2 + (np.asarray(labels) == 1)

    def _counts(self, index: Ints | None) -> tuple[Floats, Floats]:
        codes = self._codes if index is None else self._codes[index]
        counts = np.bincount(codes, minlength=2 * self._num_thresholds).reshape(-1, 2).astype(np.float64)
        return counts[:, 1], counts[:, 0]

    def curve(self) -> tuple[Floats, Floats]:
        """Positives and negatives at or above each threshold, from the highest score down, [thresholds] each."""
        positives, negatives = self._counts(None)
        return np.cumsum(positives), np.cumsum(negatives)

    def auroc(self, index: Ints | None = None) -> float:
        """Probability that a positive scores above a negative, ties counted half (Mann-Whitney U over P * N)."""
        positives, negatives = self._counts(index)
        pairs = positives.sum() * negatives.sum()
        if not pairs:
            return float("nan")
        above = np.cumsum(positives) - positives / 2
        return float((above * negatives).sum() / pairs)

    def average_precision(self, index: Ints | None = None) -> float:
        """Sum over thresholds of precision times the recall gained there; needs a positive and a negative."""
        positives, negatives = self._counts(index)
        if not positives.sum() or not negatives.sum():
            return float("nan")
        found = np.cumsum(positives)
        precision = found / np.maximum(found + np.cumsum(negatives), 1)
        return float((precision * positives).sum() / found[-1])


def average_ranks(values: Floats) -> Floats:
    """Ranks 1 .. N of values [N], ties sharing the mean of theirs."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[codes]
    return ranks


def pearson(first: Floats, second: Floats) -> float:
    """Correlation of two [N]; NaN where one of them is constant."""
    if is_constant(first) or is_constant(second):
        return float("nan")
    a, b = first - np.mean(first), second - np.mean(second)
    # sums, not `@`: a thousand small products through threaded BLAS waits for busy cores (seen: 23 s)
    return float((a * b).sum() / (np.sqrt((a * a).sum()) * np.sqrt((b * b).sum())))


def is_constant(values: Floats) -> bool:
    """True where values [N] differ by no more than rounding, or are fewer than two."""
    return len(values) < 2 or bool(np.ptp(values) <= 1e-12 * np.max(np.abs(values)))
