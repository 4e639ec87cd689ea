"""Feature masking: bands of columns say nothing throughout a sample."""

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mmtrain.data.augment.protocol import Kind
from mmtrain.data.augment.spans import draw_spans
from mmtrain.section import Section


class FeatureMaskingConfig(Section):
    """Bands of neighboring columns become the mean of all of a sample's values, in all its rows."""

    name: Literal["feature_masking"] = "feature_masking"
    reads: ClassVar[Kind] = "features"
    bands: int = Field(default=2, ge=1, description="Bands of each sample; they may overlap.")
    max_share: float = Field(
        default=0.2, ge=0, lt=1, description="Most of the columns that all bands together mask; 0: none."
    )

    def build(self) -> "FeatureMasking":
        return FeatureMasking(bands=self.bands, max_share=self.max_share)


class FeatureMasking:
    """Rows [T, D] -> [T, D]: in each band, of f columns, every value is the mean of all T x D.

    f is uniform over 0 .. floor(max_share D / bands), the first column uniform over all that fit.
    Source: Park et al. 2019, "SpecAugment", section 2, frequency masking; there each band has a bound of its own, and zero
    is the mean of a normalized spectrogram. Meant for columns of one unit (a spectrogram, an embedding).
    """

    def __init__(self, *, bands: int, max_share: float) -> None:
        self.bands, self.max_share = bands, max_share

    def __call__(self, value: npt.NDArray[np.floating], generator: np.random.Generator) -> npt.NDArray[np.floating]:
        masked = draw_spans(value.shape[1], spans=self.bands, max_share=self.max_share, generator=generator)
        if not masked.any():
            return value
        mean = value.mean(dtype=np.float64).astype(value.dtype)
        return np.where(masked, mean, value)
