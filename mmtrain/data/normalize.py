"""Rows normalized by the statistics of their modality."""

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import Statistics

_RESOLUTION = float(np.finfo(np.float32).eps)
_SMALLEST = float(np.finfo(np.float32).tiny)


class Normalizer:
    """Rows as (row - mean) / deviation, float32; a dimension that does not vary is centered alone.

    It does not vary where its deviation is below what float32 resolves at its mean.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._mean = np.array(statistics.mean)
        self._deviation = np.array(statistics.deviation)
        self._deviation[is_constant(statistics)] = 1.0

    def __call__(self, rows: npt.NDArray[np.number]) -> npt.NDArray[np.float32]:
        """Rows [T, D], finite or not; in float64, so that a mean far from 0 costs no digits."""
        normalized = np.empty(rows.shape, np.float32)
        with np.errstate(over="ignore"):  # what does not fit is Inf, which a stream refuses
            np.divide(rows - self._mean, self._deviation, out=normalized, casting="same_kind")
        return normalized


def is_constant(statistics: Statistics) -> npt.NDArray[np.bool_]:
    """The dimensions that do not vary, bool [D]."""
    floor = np.maximum(np.abs(np.array(statistics.mean)) * _RESOLUTION, _SMALLEST)
    return np.asarray(np.array(statistics.deviation) < floor)
