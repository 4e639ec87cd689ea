"""Color jitter: other light, other colors."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from mmtrain.data.augment.pictures import Pixels, transform
from mmtrain.data.augment.protocol import Kind
from mmtrain.section import Section


class ColorJitterConfig(Section):
    """Brightness, contrast, saturation and hue of all pictures of a sample change together."""

    name: Literal["color_jitter"] = "color_jitter"
    reads: ClassVar[Kind] = "images"
    brightness: float = Field(default=0.2, ge=0, le=1, description="Most by which its factor differs from 1; 0: none.")
    contrast: float = Field(default=0.2, ge=0, le=1, description="Most by which its factor differs from 1; 0: none.")
    saturation: float = Field(default=0.2, ge=0, le=1, description="Most by which its factor differs from 1; 0: none.")
    hue: float = Field(default=0.0, ge=0, le=0.5, description="Largest shift to either side, in turns of the color wheel.")

    def build(self) -> "ColorJitter":
        return ColorJitter(brightness=self.brightness, contrast=self.contrast, saturation=self.saturation, hue=self.hue)


class ColorJitter:
    """Pixels [T, 3, H, W] -> the same, through torchvision's four adjustments in random order, all frames alike.

    A factor is uniform over 1 - x .. 1 + x, the shift of the hue uniform over -x .. x; what leaves 0 .. 255 is cut.
    Source: Howard 2013, "Some Improvements on Deep Convolutional Neural Network Based Image Classification", section 2.
    """

    def __init__(self, *, brightness: float, contrast: float, saturation: float, hue: float) -> None:
        self.reach = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}

    def __call__(self, value: Pixels, generator: np.random.Generator) -> Pixels:
        if not any(self.reach.values()):
            return value
        amounts = {name: float(generator.uniform(-reach, reach)) + (name != "hue") for name, reach in self.reach.items()}
        names = [name for name in generator.permutation(list(amounts)).tolist() if self.reach[name]]
        return transform(value, lambda pictures: _adjust(pictures, {name: amounts[name] for name in names}))


def _adjust(pictures: Any, amounts: Mapping[str, float]) -> Any:
    from torchvision.transforms.v2 import functional  # slow to import

    adjust = {
        "brightness": functional.adjust_brightness,
        "contrast": functional.adjust_contrast,
        "saturation": functional.adjust_saturation,
        "hue": functional.adjust_hue,
    }
    for name, amount in amounts.items():
        pictures = adjust[name](pictures, amount)
    return pictures
