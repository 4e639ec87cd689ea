"""A video through a video backbone of torchvision: one row for each window of frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.extractors.pictures import in_batches
from data_prep.media.frames import frames_at
from data_prep.media.span import WHOLE, Span
from mmtrain.data.schema import FeatureSpec
from mmtrain.extras import require

# frames of a window, and frames per second, that the weights of torchvision were trained with
VIDEO_BACKBONES = {
    "r3d_18": (16, 15.0),
    "mc3_18": (16, 15.0),
    "r2plus1d_18": (16, 15.0),
    "s3d": (16, 15.0),
    "mvit_v2_s": (16, 7.5),
    "swin3d_t": (32, 15.0),
}


class ClipBackbone:
    """Row k is what the classifier would read of the k-th window; windows follow each other without overlap.

    The last window is filled up with its last frame. Preparation and `weights` are as of FrameBackbone.
    """

    def __init__(
        self,
        *,
        model: str,
        weights: str = "torchvision",
        frames_per_second: float | None = None,
        batch_size: int = 16,
        device: str = "cpu",
        half: bool = False,
    ) -> None:
        import torch

        from data_prep.extractors.backbone import Backbone  # torch is slow to import

        require(f"the extractor {model}", ("av",), extra="prep")
        self._backbone = Backbone(model, weights=weights, device=device, half=half)
        self._window, usual = VIDEO_BACKBONES[model]
        self.frames_per_second, self._batch_size = frames_per_second or usual, batch_size
        height, width = self._backbone.prepare.crop_size
        dim = self._backbone(torch.zeros(1, 3, self._window, height, width)).shape[1]
        self.spec = FeatureSpec(
            dim=dim,
            dtype="float16" if half else "float32",
            rows_per_second=self.frames_per_second / self._window,
            extractor=f"torchvision/{model}",
            extractor_version="1",
        )
        self.weights = self._backbone.weights

    def __call__(self, file: Path, span: Span = WHOLE) -> npt.NDArray[np.floating]:
        """Rows [T, D] of a video. Errors: DataError where it cannot be read."""
        import torch

        rows = [
            self._backbone(torch.stack(windows)).numpy()
            for windows in in_batches(self._windows(file, span), self._batch_size)
        ]
        return np.concatenate(rows).astype(self.spec.dtype)

    def _windows(self, file: Path, span: Span) -> Iterator[Any]:
        """Prepared windows [3, frames, H, W]."""
        import torch

        for frames in in_batches(frames_at(file, self.frames_per_second, span), self._window):
            filled = frames + [frames[-1]] * (self._window - len(frames))
            yield self._backbone.prepare(torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2))
