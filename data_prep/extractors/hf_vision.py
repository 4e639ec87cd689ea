"""The pictures of a video, or one picture, through a vision model of Hugging Face: one row a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.extractors.frame_backbone import FRAMES_PER_SECOND
from data_prep.extractors.pictures import in_batches, pictures_of
from data_prep.media.span import WHOLE, Span
from mmtrain.data.schema import FeatureSpec
from mmtrain.extras import require


class HuggingFaceVision:
    """Row k is the model's pooled output of the picture on screen at start + k / `frames_per_second` seconds.

    That is the image embedding of models of pictures and texts (CLIP, SigLIP), else the pooled output, or the mean over the
    last hidden state where a model pools nothing or the weights of its pooler are not in its files.
    """

    def __init__(
        self,
        *,
        path: str,
        frames_per_second: float | None = FRAMES_PER_SECOND,
        batch_size: int = 16,
        device: str = "cpu",
        half: bool = False,
    ) -> None:
        from data_prep.extractors.hugging_face import load_model  # torch is slow to import

        require(f"the extractor hf:{path}", ("av", "PIL"), extra="prep")
        self._loaded = load_model(path, processor="AutoImageProcessor", device=device, half=half)
        self.frames_per_second, self._batch_size = frames_per_second, batch_size
        self.spec = FeatureSpec(
            dim=self._rows([np.zeros((64, 64, 3), np.uint8)]).shape[1],
            dtype="float16" if half else "float32",
            rows_per_second=frames_per_second,
            extractor=f"hf/{Path(path).name if Path(path).expanduser().is_dir() else path}",
            extractor_version="1",
        )
        self.weights = self._loaded.weights

    def __call__(self, file: Path, span: Span = WHOLE) -> npt.NDArray[np.floating]:
        """Rows [T, D] of a video or a picture. Errors: DataError where it cannot be read."""
        rows = [self._rows(batch) for batch in in_batches(pictures_of(file, self.frames_per_second, span), self._batch_size)]
        return np.concatenate(rows).astype(self.spec.dtype)

    def _rows(self, pictures: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        pixels = self._loaded.prepare(images=pictures, return_tensors="pt")["pixel_values"]
        rows: npt.NDArray[np.float32] = self._pool(pixels).float().cpu().numpy()
        return rows.reshape(len(pictures), -1)

    def _pool(self, pixels: Any) -> Any:
        """Pooled outputs [n, D] (or [n, D, 1, 1]) of prepared pictures."""
        import torch

        if hasattr(self._loaded.model, "get_image_features"):
            with torch.inference_mode():
                found = self._loaded.model.get_image_features(**self._loaded.to_device({"pixel_values": pixels}))
            return getattr(found, "pooler_output", found)
        output = self._loaded(pixel_values=pixels)
        pooled = getattr(output, "pooler_output", None) if self._loaded.has_pooler else None
        if pooled is not None:
            return pooled
        hidden = output.last_hidden_state
        return hidden.mean(dim=1) if hidden.ndim == 3 else hidden.mean(dim=(2, 3))
