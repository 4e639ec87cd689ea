"""Mel spectra of a sound: what the extractors without weights have in common."""

import numpy as np
import numpy.typing as npt

from mmtrain.errors import DataError

RATE = 16_000
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms every 10 ms
FRAMES_PER_SECOND = RATE // HOP


class MelSpectrum:
    """Frames of 25 ms every 10 ms, the first centered on 0 s, to log10 amplitudes in bands equal on the HTK mel scale."""

    def __init__(self, *, bands: int, lowest: float, highest: float, floor: float) -> None:
        from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

        self._spectrogram, self._floor = spectrogram, floor
        self._filters = mel_filter_bank(
            num_frequency_bins=FFT // 2 + 1,
            num_mel_filters=bands,
            min_frequency=lowest,
            max_frequency=highest,
            sampling_rate=RATE,
            mel_scale="htk",
        )
        self._window = window_function(WINDOW, "hann")

    def __call__(self, sound: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Samples [n] at 16 kHz to frames [1 + n // 160, bands]. Errors: DataError below 25 ms."""
        if len(sound) < WINDOW:
            raise DataError(f"{len(sound)} samples of sound at {RATE} Hz, at least {WINDOW} are needed")
        frames: npt.NDArray[np.float64] = self._spectrogram(
            sound,
            self._window,
            WINDOW,
            HOP,
            fft_length=FFT,
            mel_filters=self._filters,
            power=1.0,
            log_mel="log10",
            mel_floor=self._floor,
        ).T
        return frames


def mean_rows(frames: npt.NDArray[np.float64], frames_per_row: int) -> npt.NDArray[np.float64]:
    """Means [ceil(T / n), D] over each n frames [T, D]; the last row over those that are left."""
    starts = np.arange(0, len(frames), frames_per_row)
    counts = np.diff(np.append(starts, len(frames)))
    return np.asarray(np.add.reduceat(frames, starts) / counts[:, None])
