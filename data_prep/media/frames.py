"""The pictures of a video at a stated rate, told by their time stamps, so that a variable frame rate is read rightly."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.media.container import opened
from data_prep.media.span import WHOLE, Span
from mmtrain.errors import DataError

_ROUNDING = Fraction(1, 1000)  # seconds: containers such as Matroska round time stamps to milliseconds


def frames_at(file: Path, rate: float, span: Span = WHOLE) -> Iterator[npt.NDArray[np.uint8]]:
    """Pictures [H, W, 3] in red, green and blue: the k-th is the one on screen at start + k / `rate` seconds.

    The last is the one before the span's end, or the video's. A phone's rotation is applied. Errors: DataError where the
    video cannot be read, has a damaged frame, or has nothing in the span.
    """
    step = 1 / Fraction(str(rate))
    due, on_screen, given = span.start, None, 0

    def is_inside() -> bool:
        return span.end is None or due < span.end

    with opened(file, "video") as source:
        for time, frame in source.frames(span.start):
            while due + _ROUNDING < time and is_inside():
                yield _pixels(frame if on_screen is None else on_screen)
                due, given = due + step, given + 1
            if not is_inside():
                break
            on_screen = frame
        while on_screen is not None and due + _ROUNDING < source.reached and is_inside():
            yield _pixels(on_screen)
            due, given = due + step, given + 1
        source.check_end(span)
        if not given:
            raise DataError(f"no picture from {span}; it ends at {float(source.reached):.2f} s")


def _pixels(frame: Any) -> npt.NDArray[np.uint8]:
    if frame.is_corrupt:
        raise DataError(f"damaged: the picture at {frame.time:.2f} s")
    upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return np.ascontiguousarray(upright, dtype=np.uint8)
