"""Rotation: pictures are turned by a few degrees."""

from functools import partial
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from mmtrain.data.augment.pictures import Pixels, transform
from mmtrain.data.augment.protocol import Kind
from mmtrain.section import Section


class RotationConfig(Section):
    """All pictures of a sample are turned about their center by one angle."""

    name: Literal["rotation"] = "rotation"
    reads: ClassVar[Kind] = "images"
    degrees: float = Field(default=10.0, ge=0, le=180, description="Largest angle, to either side; 0: none.")

    def build(self) -> "Rotation":
        return Rotation(degrees=self.degrees)


class Rotation:
    """Pixels [T, 3, H, W] -> the same size, turned by an angle uniform over -degrees .. degrees, all frames alike.

    Bilinear; what comes from outside the picture is black.
    """

    def __init__(self, *, degrees: float) -> None:
        self.degrees = degrees

    def __call__(self, value: Pixels, generator: np.random.Generator) -> Pixels:
        if self.degrees == 0:
            return value
        from torchvision.transforms.v2 import InterpolationMode, functional  # slow to import

        angle = float(generator.uniform(-self.degrees, self.degrees))
        return transform(value, partial(functional.rotate, angle=angle, interpolation=InterpolationMode.BILINEAR))
