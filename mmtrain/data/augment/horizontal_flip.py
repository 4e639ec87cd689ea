"""Horizontal flip: left becomes right."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from mmtrain.data.augment.pictures import Pixels, transform
from mmtrain.data.augment.protocol import Kind
from mmtrain.section import Section


class HorizontalFlipConfig(Section):
    """All pictures of a sample are mirrored, or none."""

    name: Literal["horizontal_flip"] = "horizontal_flip"
    reads: ClassVar[Kind] = "images"
    probability: float = Field(default=0.5, ge=0, le=1, description="That a sample is mirrored.")

    def build(self) -> "HorizontalFlip":
        return HorizontalFlip(probability=self.probability)


class HorizontalFlip:
    """Pixels [T, 3, H, W] -> the same, with the probability mirrored from left to right, all frames alike."""

    def __init__(self, *, probability: float) -> None:
        self.probability = probability

    def __call__(self, value: Pixels, generator: np.random.Generator) -> Pixels:
        if generator.random() >= self.probability:
            return value
        from torchvision.transforms.v2 import functional  # slow to import

        return transform(value, functional.horizontal_flip)
