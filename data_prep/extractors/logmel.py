"""Sound to log-mel rows, one every 100 ms, without any weights."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import FeatureSpec
from mmtrain.errors import DataError

RATE = 16_000
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms every 10 ms
FRAMES_PER_ROW = 10
BANDS = 64
FLOOR = 1e-6  # amplitude; digital silence is -6 and speech lies between -3 and 1, so that silence is no outlier


class LogMel:
    """Mono mix at 16 kHz -> 64 mel bands of 25 ms frames -> log10 amplitude, averaged over 10 frames.

    Nothing is normalized per file, so that loudness stays.
    """

    def __init__(self) -> None:
        try:
            import soundfile
            import soxr
        except ImportError as error:
            raise DataError(f"--audio logmel needs the package {error.name}. Write: pip install 'mmtrain[prep]'") from None
        from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

        self._soundfile, self._resample, self._spectrogram = soundfile, soxr.resample, spectrogram
        self._filters = mel_filter_bank(
            num_frequency_bins=FFT // 2 + 1,
            num_mel_filters=BANDS,
            min_frequency=0.0,
            max_frequency=RATE / 2,
            sampling_rate=RATE,
            mel_scale="htk",
        )
        self._window = window_function(WINDOW, "hann")
        self.spec = FeatureSpec(
            dim=BANDS, rows_per_second=RATE / HOP / FRAMES_PER_ROW, extractor="logmel", extractor_version="1"
        )
        self.weights: dict[str, str] = {}

    def __call__(self, file: Path) -> npt.NDArray[np.float32]:
        """Rows [T, 64] of a sound file, float32. Errors: DataError where it cannot be read or is shorter than a frame."""
        try:
            sound, rate = self._soundfile.read(str(file), dtype="float32", always_2d=True)
        except (self._soundfile.SoundFileError, OSError) as error:
            raise DataError(f"not a readable sound file ({error})") from None
        mono = sound.mean(axis=1)
        if rate != RATE and len(mono):
            mono = self._resample(mono, rate, RATE)
        if len(mono) < WINDOW:
            raise DataError(f"{len(mono)} samples of sound at {RATE} Hz, at least {WINDOW} are needed")
        if not np.isfinite(mono).all():
            raise DataError("the sound holds NaN or Inf")
        frames = self._spectrogram(
            mono,
            self._window,
            WINDOW,
            HOP,
            fft_length=FFT,
            mel_filters=self._filters,
            power=1.0,
            log_mel="log10",
            mel_floor=FLOOR,
        ).T
        starts = np.arange(0, len(frames), FRAMES_PER_ROW)
        counts = np.diff(np.append(starts, len(frames)))
        means = np.add.reduceat(frames, starts) / counts[:, None]
        return np.asarray(means, dtype=np.float32)
