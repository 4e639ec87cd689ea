"""Feature masking: bands of columns are silent throughout a sample."""

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mmtrain.data.augment.protocol import Kind
from mmtrain.data.augment.spans import draw_spans
from mmtrain.section import Section


class FeatureMaskingConfig(Section):
    """Bands of neighboring columns become zero in all rows of a sample."""

    name: Literal["feature_masking"] = "feature_masking"
    reads: ClassVar[Kind] = "features"
    bands: int = Field(default=2, ge=1, description="Bands of each sample; they may overlap.")
    max_share: float = Field(
        default=0.2, ge=0, lt=1, description="Most of the columns that all bands together mask; 0: none."
    )

    def build(self) -> "FeatureMasking":
        return FeatureMasking(bands=self.bands, max_share=self.max_share)


class FeatureMasking:
    """Rows [T, D] -> [T, D]: in each band, of f columns, every row is zero.

    f is uniform over 0 .. floor(max_share D / bands), the first column uniform over all that fit.
    Source: Park et al. 2019, "SpecAugment", section 2, frequency masking; there each band has a bound of its own. Zero is
    the mean of their normalized spectrograms; of columns that are not centered it is dropout, in whole bands. (The
    sample's own mean would leave a modality of one row as it was.)
    """

    def __init__(self, *, bands: int, max_share: float) -> None:
        self.bands, self.max_share = bands, max_share

    def __call__(self, value: npt.NDArray[np.floating], generator: np.random.Generator) -> npt.NDArray[np.floating]:
        masked = draw_spans(value.shape[1], spans=self.bands, max_share=self.max_share, generator=generator)
        return np.where(masked, value.dtype.type(0), value) if masked.any() else value
