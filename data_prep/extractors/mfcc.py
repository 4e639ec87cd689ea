"""Sound to mel-frequency cepstral coefficients, one row every 100 ms, without any weights."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.extractors.mel import FRAMES_PER_SECOND, RATE, MelSpectrum, mean_rows
from data_prep.media.sound import read_sound
from data_prep.media.span import WHOLE, Span
from mmtrain.data.schema import FeatureSpec
from mmtrain.extras import require

FRAMES_PER_ROW = 10
BANDS = 40
COEFFICIENTS = 20
FLOOR = 1e-6


class Mfcc:
    """Natural log amplitude in 40 mel bands up to 8 kHz -> orthonormal DCT-II -> coefficients 0 .. 19, averaged over 100 ms.

    Davis and Mermelstein (1980), eq. 1, without liftering.
    """

    def __init__(self) -> None:
        require("the extractor mfcc", ("av", "soxr"), extra="prep")
        self._spectrum = MelSpectrum(bands=BANDS, lowest=0.0, highest=RATE / 2, floor=FLOOR)
        self.spec = FeatureSpec(
            dim=COEFFICIENTS, rows_per_second=FRAMES_PER_SECOND / FRAMES_PER_ROW, extractor="mfcc", extractor_version="1"
        )
        self.weights: dict[str, str] = {}
        self.frames_per_second = None

    def __call__(self, file: Path, span: Span = WHOLE) -> npt.NDArray[np.float32]:
        """Rows [T, 20] of a sound or video file, float32. Errors: DataError where it cannot be read or is below 25 ms."""
        from scipy.fft import dct

        frames = self._spectrum(read_sound(file, RATE, span)) * math.log(10)
        coefficients = dct(frames, type=2, norm="ortho", axis=1)[:, :COEFFICIENTS]
        return mean_rows(coefficients, FRAMES_PER_ROW).astype(np.float32)
