"""Long lines as few points that look the same: the least and the greatest value of each stretch."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def thin(x: Floats, y: Floats, *, most: int) -> tuple[Floats, Floats]:
    """At most about `most` points of a line, in order: of equal stretches of points the extremes, besides first and last.

    NaN stands where a whole stretch is NaN, so that a gap stays a gap. The same line gives the same points.
    """
    if len(x) <= most:
        return x, y
    borders = np.linspace(0, len(x), max(most // 2, 1) + 1).astype(np.int64)
    kept = {0, len(x) - 1}
    for start, stop in pairwise(borders.tolist()):
        part = y[start:stop]
        if np.isnan(part).all():
            kept.add(start)
            continue
        kept |= {start + int(np.nanargmin(part)), start + int(np.nanargmax(part))}
    chosen = np.array(sorted(kept))
    return x[chosen], y[chosen]


def spread_out(count: int, *, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of the numbers below `count`, evenly spaced and ascending."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.linspace(0, count - 1, most).round().astype(np.int64)
