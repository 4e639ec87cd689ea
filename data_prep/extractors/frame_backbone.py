"""The pictures of a video, or one picture, through an image backbone of torchvision: one row a picture."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.extractors.pictures import in_batches, pictures_of
from data_prep.media.span import WHOLE, Span
from mmtrain.data.schema import FeatureSpec
from mmtrain.extras import require

IMAGE_BACKBONES = ("resnet18", "resnet50", "efficientnet_b0", "vit_b_16")
FRAMES_PER_SECOND = 2.0


class FrameBackbone:
    """Row k is what the classifier would read of the picture on screen at start + k / `frames_per_second` seconds.

    Each picture is resized, cropped and normalized as torchvision does for its own weights of the model. `weights`: a file,
    `torchvision` (its newest, fetched once) or `random` (the same in every run).
    """

    def __init__(
        self,
        *,
        model: str,
        weights: str = "torchvision",
        frames_per_second: float | None = FRAMES_PER_SECOND,
        batch_size: int = 16,
        device: str = "cpu",
        half: bool = False,
    ) -> None:
        import torch

        from data_prep.extractors.backbone import Backbone  # torch is slow to import

        require(f"the extractor {model}", ("av", "PIL"), extra="prep")
        self._backbone = Backbone(model, weights=weights, device=device, half=half)
        self.frames_per_second, self._batch_size = frames_per_second, batch_size
        side = self._backbone.prepare.crop_size[0]
        width = self._backbone(torch.zeros(1, 3, side, side)).shape[1]
        self.spec = FeatureSpec(
            dim=width,
            dtype="float16" if half else "float32",
            rows_per_second=frames_per_second,
            extractor=f"torchvision/{model}",
            extractor_version="1",
        )
        self.weights = self._backbone.weights

    def __call__(self, file: Path, span: Span = WHOLE) -> npt.NDArray[np.floating]:
        """Rows [T, D] of a video or a picture. Errors: DataError where it cannot be read."""
        import torch

        rows = []
        for pictures in in_batches(pictures_of(file, self.frames_per_second, span), self._batch_size):
            prepared = [self._backbone.prepare(torch.from_numpy(picture.copy()).permute(2, 0, 1)) for picture in pictures]
            rows.append(self._backbone(torch.stack(prepared)).numpy())
        return np.concatenate(rows).astype(self.spec.dtype)
