"""Resized crop: a part of the picture, as large as the whole."""

import math
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from mmtrain.data.augment.pictures import Pixels, transform
from mmtrain.data.augment.protocol import Kind
from mmtrain.section import Section


class ResizedCropConfig(Section):
    """Of all pictures of a sample the same part, resized to the whole's height and width."""

    name: Literal["resized_crop"] = "resized_crop"
    reads: ClassVar[Kind] = "images"
    min_share: float = Field(default=0.5, gt=0, le=1, description="Least share of the picture's area; the paper's is 0.08.")
    max_stretch: float = Field(
        default=4 / 3, ge=1, description="Most that the part's width to height differs from the picture's; 1: not at all."
    )

    def build(self) -> "ResizedCrop":
        return ResizedCrop(min_share=self.min_share, max_stretch=self.max_stretch)


class ResizedCrop:
    """Pixels [T, 3, H, W] -> the same size: a part of the area s H W, s uniform over min_share .. 1, all frames alike.

    It is sqrt(s r) W wide and sqrt(s / r) H high, the logarithm of r uniform over +-log(max_stretch), no more than the
    picture has, and lies anywhere that it fits. Bilinear, averaging what it shrinks.
    Source: Szegedy et al. 2015, "Going Deeper with Convolutions", section 6 (there r is of width to height itself).
    """

    def __init__(self, *, min_share: float, max_stretch: float) -> None:
        self.min_share, self.max_stretch = min_share, max_stretch

    def __call__(self, value: Pixels, generator: np.random.Generator) -> Pixels:
        if self.min_share == 1 and self.max_stretch == 1:
            return value
        from torchvision.transforms.v2 import functional  # slow to import

        whole = (value.shape[2], value.shape[3])
        share = generator.uniform(self.min_share, 1)
        stretch = math.exp(generator.uniform(-1, 1) * math.log(self.max_stretch))
        height, width = (
            min(max(round(size * math.sqrt(part)), 1), size)
            for size, part in zip(whole, (share / stretch, share * stretch), strict=True)
        )
        top, left = (int(generator.integers(size - part + 1)) for size, part in zip(whole, (height, width), strict=True))
        cut = partial(functional.resized_crop, top=top, left=left, height=height, width=width, size=list(whole))
        return transform(value, partial(cut, antialias=True))
