"""Time jitter: some rows are replaced by rows near them."""

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mmtrain.data.augment.protocol import Kind
from mmtrain.section import Section


class TimeJitterConfig(Section):
    """A row is replaced by one near it, with a probability of its own."""

    name: Literal["time_jitter"] = "time_jitter"
    reads: ClassVar[Kind] = "features"
    probability: float = Field(default=0.12, ge=0, le=1, description="That a row is replaced; the paper's is 0.12.")
    reach: int = Field(default=1, ge=1, description="Rows to the farthest that may come in its place; the paper's is 1.")

    def build(self) -> "TimeJitter":
        return TimeJitter(probability=self.probability, reach=self.reach)


class TimeJitter:
    """Rows [T, D] -> [T, D]: row i becomes row i + s, where s is 0, or with the probability uniform over +-1 .. +-reach.

    Rows beyond either end are the first and the last, so that of a single row nothing changes.
    Source: Chorowski et al. 2019, "Unsupervised Speech Representation Learning Using WaveNet Autoencoders", time-jitter
    regularization.
    """

    def __init__(self, *, probability: float, reach: int) -> None:
        self.probability, self.reach = probability, reach

    def __call__(self, value: npt.NDArray[np.floating], generator: np.random.Generator) -> npt.NDArray[np.floating]:
        count = len(value)
        moves = generator.random(count) < self.probability
        shifts = generator.integers(1, self.reach + 1, size=count) * generator.choice((-1, 1), size=count)
        if not moves.any():
            return value
        rows = np.clip(np.arange(count) + np.where(moves, shifts, 0), 0, count - 1)
        return value[rows]
