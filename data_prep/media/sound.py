"""The sound of a file, or of a video's own track, as one mono signal at the rate that is asked for."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.media.container import Source, opened
from data_prep.media.span import WHOLE, Span
from mmtrain.errors import DataError

_JUMP = Fraction(1, 10)  # seconds: what time stamps may stray before they mean a gap; some containers round them


def read_sound(file: Path, rate: int, span: Span = WHOLE) -> npt.NDArray[np.float32]:
    """Samples [n] in -1 .. 1: the mean of all channels, resampled by soxr, n = length of the span times `rate`.

    Where a video's sound begins later than its pictures, or has gaps, there is silence. Errors: DataError where it cannot be
    read, has no audio track or nothing in the span, or holds NaN.
    """
    import soxr

    with opened(file, "audio") as source:
        native = int(source.stream.rate)
        sound = _decode(source, span, native)
        source.check_end(span)
    if not len(sound):
        raise DataError(f"no sound from {span}; it ends at {float(source.reached):.2f} s")
    if not np.isfinite(sound).all():
        raise DataError("the sound holds NaN or Inf")
    resampled: npt.NDArray[np.float32] = sound if native == rate else soxr.resample(sound, native, rate)
    return resampled


def _decode(source: Source, span: Span, native: int) -> npt.NDArray[np.float32]:
    """Mono samples at the file's own rate; every frame lies where its time says."""
    from av import AudioResampler

    to_floats = AudioResampler(format="fltp")
    limit = None if span.end is None else round((span.end - span.start) * native)
    parts: list[npt.NDArray[np.float32]] = []
    filled = 0
    for time, frame in source.frames(span.start):
        if frame.sample_rate != native:
            raise DataError(f"its sampling rate changes from {native} to {frame.sample_rate} Hz")
        mono = np.concatenate([part.to_ndarray().mean(axis=0, dtype=np.float32) for part in to_floats.resample(frame)])
        place = round((time - span.start) * native)
        if parts and abs(place - filled) <= _JUMP * native:
            place = filled
        if limit is not None and place >= limit:
            parts.append(np.zeros(limit - filled, np.float32))
            break
        if place + len(mono) <= filled:
            continue
        parts += [np.zeros(max(place - filled, 0), np.float32), mono[max(filled - place, 0) :]]
        filled = place + len(mono)
        if limit is not None and filled >= limit:
            break
    return np.concatenate([np.zeros(0, np.float32), *parts])[:limit]
