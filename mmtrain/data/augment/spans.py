"""Where the spans of a mask lie."""

import numpy as np
import numpy.typing as npt


def draw_spans(size: int, *, spans: int, max_share: float, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """[size] bool, True = masked: `spans` spans, which may overlap, of at most `max_share` of the places together.

    Each is t places long, t uniform over 0 .. floor(max_share * size / spans), and begins anywhere that it fits. With
    `max_share` below 1 some place is always left.
    """
    longest = int(max_share * size / spans)
    lengths = generator.integers(longest + 1, size=spans)
    starts = generator.integers(size - lengths + 1)
    masked = np.zeros(size, bool)
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        masked[start : start + length] = True
    return masked
