"""Gaussian noise on pixels."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from mmtrain.data.augment.pictures import Pixels
from mmtrain.data.augment.protocol import Kind
from mmtrain.section import Section


class PixelNoiseConfig(Section):
    """A normal number is added to every color of every pixel."""

    name: Literal["pixel_noise"] = "pixel_noise"
    reads: ClassVar[Kind] = "images"
    std: float = Field(default=8.0, ge=0, description="Standard deviation, of pixels from 0 to 255; 0: none.")

    def build(self) -> "PixelNoise":
        return PixelNoise(std=self.std)


class PixelNoise:
    """Pixels [T, 3, H, W] -> the same: x + std * e, e standard normal and independent everywhere, rounded, cut to 0 .. 255.

    Source: Bishop 1995, "Training with Noise is Equivalent to Tikhonov Regularization", section 2.
    """

    def __init__(self, *, std: float) -> None:
        self.std = std

    def __call__(self, value: Pixels, generator: np.random.Generator) -> Pixels:
        if self.std == 0:
            return value
        noisy = generator.standard_normal(value.shape, dtype=np.float32) * np.float32(self.std) + value
        return noisy.round().clip(0, 255).astype(np.uint8)
