"""Sound through an audio model of Hugging Face, its hidden states averaged to a stated rate of rows."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.media.sound import read_sound
from data_prep.media.span import WHOLE, Span
from mmtrain.data.schema import FeatureSpec
from mmtrain.errors import ConfigError
from mmtrain.extras import require

ROWS_PER_SECOND = 2.0
_SEGMENT = 10.0  # seconds that a model without a fixed length hears at a time
_SHORTEST = 0.1  # seconds; what is left of a sound is filled up to it


class HuggingFaceAudio:
    """Row k is the mean of the last hidden states whose middle lies in [k, k + 1) / `rows_per_second` seconds.

    The sound is heard in segments that follow each other: 30 s for Whisper (its encoder alone), the length of its
    spectrogram for AST (whose patches are averaged over the bands first), 10 s for wav2vec 2.0, HuBERT and all else that
    reads samples; each is shortened to a whole number of rows, and prepared by itself.
    """

    def __init__(
        self,
        *,
        path: str,
        rows_per_second: float = ROWS_PER_SECOND,
        device: str = "cpu",
        half: bool = False,
    ) -> None:
        from data_prep.extractors.hugging_face import load_model  # torch is slow to import

        require(f"the extractor hf:{path}", ("av", "soxr"), extra="prep")
        self._loaded = load_model(path, processor="AutoFeatureExtractor", device=device, half=half)
        self._config, self._rate = self._loaded.model.config, int(self._loaded.prepare.sampling_rate)
        self._rows_per_second = rows_per_second
        rows = math.floor(self._window() * rows_per_second)
        if not rows:
            raise ConfigError(f"--rows-per-second {rows_per_second}: {self._window():g} s is what the model hears at a time")
        self._segment = round(rows * self._rate / rows_per_second)
        states, seconds = self._states(np.zeros(self._segment, np.float32))
        if len(states) / seconds < rows_per_second:
            raise ConfigError(f"--rows-per-second {rows_per_second}: the model gives {len(states) / seconds:g}, write less")
        self.spec = FeatureSpec(
            dim=states.shape[1],
            dtype="float16" if half else "float32",
            rows_per_second=rows_per_second,
            extractor=f"hf/{Path(path).name if Path(path).expanduser().is_dir() else path}",
            extractor_version="1",
        )
        self.weights = self._loaded.weights
        self.frames_per_second = None

    def __call__(self, file: Path, span: Span = WHOLE) -> npt.NDArray[np.floating]:
        """Rows [T, D] of a sound or video file. Errors: DataError where it cannot be read."""
        sound = read_sound(file, self._rate, span)
        parts = [self._rows(sound[first : first + self._segment]) for first in range(0, len(sound), self._segment)]
        return np.concatenate(parts).astype(self.spec.dtype)

    def _rows(self, sound: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Rows of one segment."""
        shortest = math.ceil(max(_SHORTEST, 1 / self._rows_per_second) * self._rate)
        states, seconds = self._states(np.pad(sound, (0, max(shortest - len(sound), 0))))
        middles = (np.arange(len(states)) + 0.5) * seconds / len(states)
        count = math.ceil(len(sound) / self._rate * self._rows_per_second - 1e-6)
        rows = np.floor(middles * self._rows_per_second + 1e-9).astype(int)
        return np.stack([states[rows == row].mean(axis=0) for row in range(max(count, 1))])

    def _states(self, sound: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
        """Hidden states [L, D], and the seconds over which they are spread evenly."""
        prepared = self._loaded.prepare(sound, sampling_rate=self._rate, return_tensors="pt")
        kind = self._config.model_type
        if kind == "whisper":
            hidden = self._hear(self._loaded.model.get_encoder(), {"input_features": prepared["input_features"]})[0]
            return hidden.numpy(), self._window()
        key = next(name for name in ("input_values", "input_features") if name in prepared)
        hidden = self._hear(self._loaded.model, {key: prepared[key]})[0]
        if kind != "audio-spectrogram-transformer":
            return hidden.numpy(), len(sound) / self._rate
        bands = (self._config.num_mel_bins - self._config.patch_size) // self._config.frequency_stride + 1
        patches = hidden[2:].reshape(bands, -1, hidden.shape[1])  # behind the class and distillation tokens
        return patches.mean(dim=0).numpy(), self._window()

    def _hear(self, module: Any, inputs: dict[str, Any]) -> Any:
        import torch

        with torch.inference_mode():
            return module(**self._loaded.to_device(inputs)).last_hidden_state.float().cpu()

    def _window(self) -> float:
        """Seconds that the model hears at a time."""
        if self._config.model_type == "whisper":
            return float(self._loaded.prepare.chunk_length)
        if self._config.model_type == "audio-spectrogram-transformer":
            return float(self._config.max_length) / 100  # frames every 10 ms
        return _SEGMENT
