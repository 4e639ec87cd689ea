"""Sound to log-mel rows, one every 100 ms, without any weights."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.extractors.mel import FRAMES_PER_SECOND, RATE, MelSpectrum, mean_rows
from data_prep.media.sound import read_sound
from data_prep.media.span import WHOLE, Span
from mmtrain.data.schema import FeatureSpec
from mmtrain.extras import require

FRAMES_PER_ROW = 10
BANDS = 64
FLOOR = 1e-6  # amplitude; digital silence is -6 and speech lies between -3 and 1, so that silence is no outlier


class LogMel:
    """Mono mix at 16 kHz -> 64 mel bands of 25 ms frames -> log10 amplitude, averaged over 10 frames.

    Nothing is normalized per file, so that loudness stays.
    """

    def __init__(self) -> None:
        require("the extractor logmel", ("av", "soxr"), extra="prep")
        self._spectrum = MelSpectrum(bands=BANDS, lowest=0.0, highest=RATE / 2, floor=FLOOR)
        self.spec = FeatureSpec(
            dim=BANDS, rows_per_second=FRAMES_PER_SECOND / FRAMES_PER_ROW, extractor="logmel", extractor_version="1"
        )
        self.weights: dict[str, str] = {}
        self.frames_per_second = None

    def __call__(self, file: Path, span: Span = WHOLE) -> npt.NDArray[np.float32]:
        """Rows [T, 64] of a sound or video file, float32. Errors: DataError where it cannot be read or is below 25 ms."""
        frames = self._spectrum(read_sound(file, RATE, span))
        return mean_rows(frames, FRAMES_PER_ROW).astype(np.float32)
