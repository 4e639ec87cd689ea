"""Gaussian noise on feature rows."""

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mmtrain.data.augment.protocol import Kind
from mmtrain.section import Section


class GaussianNoiseConfig(Section):
    """A normal number is added to every feature."""

    name: Literal["gaussian_noise"] = "gaussian_noise"
    reads: ClassVar[Kind] = "features"
    std: float = Field(default=0.1, ge=0, description="Standard deviation, in the features' own units; 0: none.")

    def build(self) -> "GaussianNoise":
        return GaussianNoise(std=self.std)


class GaussianNoise:
    """Rows [T, D] -> [T, D]: x + std * e, e standard normal, independent for every row and column.

    `std` is in the units of the rows, the same for all columns. What would leave the range of float16 stays at its end.
    Source: Bishop 1995, "Training with Noise is Equivalent to Tikhonov Regularization", section 2.
    """

    def __init__(self, *, std: float) -> None:
        self.std = std

    def __call__(self, value: npt.NDArray[np.floating], generator: np.random.Generator) -> npt.NDArray[np.floating]:
        if self.std == 0:
            return value
        noisy = generator.standard_normal(value.shape, dtype=np.float32)
        noisy *= np.float32(self.std)
        noisy += value
        if value.dtype == np.float16:
            limit = np.finfo(np.float16).max
            noisy = np.clip(noisy, -limit, limit)
        return noisy.astype(value.dtype, copy=False)
