"""Sound to the descriptors of eGeMAPS through openSMILE, which its user has installed: one row every 100 ms."""

from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from data_prep.extractors.mel import mean_rows
from data_prep.media.sound import read_sound
from data_prep.media.span import WHOLE, Span
from mmtrain.data.schema import FeatureSpec
from mmtrain.errors import ConfigError, DataError
from mmtrain.extras import require

RATE = 16_000
FRAMES_PER_SECOND, FRAMES_PER_ROW = 100, 10
LOUDEST = 1 - 2**-15  # openSMILE makes 16-bit numbers of sound without looking whether they fit


class OpenSmile:
    """The 25 low-level descriptors of eGeMAPSv02 every 10 ms (pitch, loudness, formants, ...), averaged over 10 of them.

    Eyben et al., The Geneva Minimalistic Acoustic Parameter Set (2016). openSMILE is free for private use, research and
    education, and not for commercial products; mmtrain never installs it.
    """

    def __init__(self) -> None:
        require("the extractor opensmile", ("av", "soxr"), extra="prep")
        try:
            import opensmile
        except ImportError:
            raise ConfigError(
                "the extractor opensmile needs openSMILE, which mmtrain does not install: its licence allows private use, "
                "research and education, and no commercial product. Where that fits: pip install opensmile"
            ) from None
        self._smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.LowLevelDescriptors
        )
        self._lock = Lock()  # whether it may be called by several threads at a time is not said
        self.spec = FeatureSpec(
            dim=self._smile.num_features,
            rows_per_second=FRAMES_PER_SECOND / FRAMES_PER_ROW,
            extractor="opensmile/eGeMAPSv02",
            extractor_version=f"1, opensmile {opensmile.__version__}",
        )
        self.weights: dict[str, str] = {}
        self.frames_per_second = None

    def __call__(self, file: Path, span: Span = WHOLE) -> npt.NDArray[np.float32]:
        """Rows [T, 25] of a sound or video file, float32. Errors: DataError where it cannot be read or is too short."""
        sound = np.clip(read_sound(file, RATE, span), -1, LOUDEST)
        with self._lock:
            frames = self._smile.process_signal(sound, RATE).to_numpy(np.float64)
        if not np.isfinite(frames).all():
            raise DataError(f"openSMILE has no descriptors for {len(sound) / RATE:.3f} s of sound; it may be too short")
        return mean_rows(frames, FRAMES_PER_ROW).astype(np.float32)
