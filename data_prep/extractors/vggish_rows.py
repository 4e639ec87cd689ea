"""Sound to rows of VGGish's shape and rate, 128 numbers every 0.96 s, without VGGish's weights."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.extractors.mel import FRAMES_PER_SECOND, RATE, MelSpectrum, mean_rows
from data_prep.media.sound import read_sound
from data_prep.media.span import WHOLE, Span
from mmtrain.data.schema import FeatureSpec
from mmtrain.extras import require

FRAMES_PER_ROW = 96
BANDS = 64
LOWEST, HIGHEST = 125.0, 7500.0  # Hz
FLOOR = 1e-2  # amplitude


class VggishRows:
    """Means, then standard deviations, of 64 log10 mel amplitudes over the 96 frames of one of VGGish's patches.

    Bands of 125 to 7500 Hz and windows of 0.96 s as in Hershey et al. (2017), with a floor of 0.01 where VGGish adds it. The
    last row is over the frames that are left.
    """

    def __init__(self) -> None:
        require("the extractor vggish-rows", ("av", "soxr"), extra="prep")
        self._spectrum = MelSpectrum(bands=BANDS, lowest=LOWEST, highest=HIGHEST, floor=FLOOR)
        self.spec = FeatureSpec(
            dim=2 * BANDS,
            rows_per_second=FRAMES_PER_SECOND / FRAMES_PER_ROW,
            extractor="vggish-rows",
            extractor_version="1",
        )
        self.weights: dict[str, str] = {}
        self.frames_per_second = None

    def __call__(self, file: Path, span: Span = WHOLE) -> npt.NDArray[np.float32]:
        """Rows [T, 128] of a sound or video file, float32. Errors: DataError where it cannot be read or is below 25 ms."""
        frames = self._spectrum(read_sound(file, RATE, span))
        means = mean_rows(frames, FRAMES_PER_ROW)
        around = frames - np.repeat(means, FRAMES_PER_ROW, axis=0)[: len(frames)]
        deviations = np.sqrt(mean_rows(around**2, FRAMES_PER_ROW))
        return np.concatenate([means, deviations], axis=1).astype(np.float32)
