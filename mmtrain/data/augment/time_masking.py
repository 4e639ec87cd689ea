"""Time masking: spans of rows lose what they say."""

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mmtrain.data.augment.protocol import Kind
from mmtrain.data.augment.spans import draw_spans
from mmtrain.section import Section


class TimeMaskingConfig(Section):
    """Spans of a sample's rows become the mean of all its rows."""

    name: Literal["time_masking"] = "time_masking"
    reads: ClassVar[Kind] = "features"
    spans: int = Field(default=2, ge=1, description="Spans of each sample; they may overlap.")
    max_share: float = Field(default=0.2, ge=0, lt=1, description="Most of the rows that all spans together mask; 0: none.")

    def build(self) -> "TimeMasking":
        return TimeMasking(spans=self.spans, max_share=self.max_share)


class TimeMasking:
    """Rows [T, D] -> [T, D]: in each span, of t rows, every row is the sample's mean row.

    t is uniform over 0 .. floor(max_share T / spans), its first row uniform over all that fit. A masked row stays a real
    row (True in the mask), so that lengths and positions are as they were.
    Source: Park et al. 2019, "SpecAugment", section 2, time masking, with a bound that is a share of the rows as in Park et
    al. 2020, "SpecAugment on Large Scale Datasets"; there it is each span's, here that of all together. Their masked
    value, zero, is the mean of their normalized spectrograms.
    """

    def __init__(self, *, spans: int, max_share: float) -> None:
        self.spans, self.max_share = spans, max_share

    def __call__(self, value: npt.NDArray[np.floating], generator: np.random.Generator) -> npt.NDArray[np.floating]:
        masked = draw_spans(len(value), spans=self.spans, max_share=self.max_share, generator=generator)
        if not masked.any():
            return value
        mean = value.mean(axis=0, dtype=np.float64).astype(value.dtype)  # [D]
        return np.where(masked[:, None], mean, value)
