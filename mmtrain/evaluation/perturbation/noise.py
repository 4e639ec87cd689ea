"""Gaussian noise on feature rows and pixels."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mmtrain.data.augment.protocol import Kind
from mmtrain.data.dataset import Sample, Stream
from mmtrain.data.moments import measure
from mmtrain.data.normalize import is_constant
from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError
from mmtrain.evaluation.perturbation.protocol import generator_for


class Noise:
    """x + level * s * e on real rows: e standard normal and independent everywhere, s the deviation of x's own dimension.

    s is taken over the training rows of the sample's store, as the model reads them; of pixels it is each color's, and what
    comes out is rounded and cut to 0 .. 255. A dimension that does not vary gets no noise.
    """

    name: ClassVar[str] = "noise"
    reads: ClassVar[frozenset[Kind]] = frozenset({"features", "images"})
    levels: ClassVar[tuple[float, ...]] = (0.5, 1.0, 2.0)
    most: ClassVar[float] = math.inf
    unit: ClassVar[str] = "deviations of each dimension over train"
    is_random: ClassVar[bool] = True

    def __init__(self, *, modality: str, seed: int) -> None:
        self.modality, self.seed = modality, seed
        self._deviations: dict[str, npt.NDArray[np.float32]] = {}

    def __call__(self, sample: Sample, stream: Stream, *, level: float, repeat: int) -> Sample:
        if self.modality not in sample.features:
            return sample
        place = str(stream.store.path)
        if place not in self._deviations:
            self._deviations[place] = train_deviations(stream.store, self.modality).astype(np.float32)
        rows = sample.features[self.modality]  # [T, D] or [T, 3, H, W]
        own = generator_for(self.name, sample, stream, modality=self.modality, seed=self.seed, repeat=repeat)
        noise = own.standard_normal(rows.shape, dtype=np.float32)
        scale = np.float32(level) * self._deviations[place]
        noisy = rows + noise * (scale[:, None, None] if rows.ndim == 4 else scale)
        if rows.dtype == np.uint8:
            noisy = noisy.round().clip(0, 255).astype(np.uint8)
        return replace(sample, features={**sample.features, self.modality: noisy})


def train_deviations(store: FeatureStore, modality: str) -> npt.NDArray[np.float64]:
    """Standard deviation of every dimension [D], or color [3], over the store's training rows as the model reads them.

    From the statistics of dataset.json where there are some, else by reading the rows. Errors: DataError without rows, or
    where they hold NaN or Inf.
    """
    statistics = store.schema.modalities[modality].statistics
    if statistics is not None:
        deviation = np.where(is_constant(statistics), 0.0, statistics.deviation)
        return (deviation > 0).astype(np.float64) if statistics.normalize else deviation
    pieces = (_by_dimension(store.rows(modality, int(index))) for index in store.split("train"))
    shape = store.schema.modalities[modality].row_shape
    with np.errstate(invalid="ignore"):  # NaN is refused below, by name
        moments = measure(pieces, shape[0])
    if not moments.rows:
        raise DataError(
            f"store '{store.name}' ({store.path}) has no training rows of {modality}, whose deviations noise is counted in; "
            "leave it out: --levels noise="
        )
    if not np.isfinite(moments.squares).all():
        raise DataError(
            f"store '{store.name}': NaN or Inf in {modality} of train; `mmtrain data check {store.path}` names it"
        )
    return np.sqrt(moments.squares / moments.rows)


def _by_dimension(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[R, D]: of pixels [T, 3, H, W] every one is a row of three."""
    return np.moveaxis(rows, 1, -1).reshape(-1, rows.shape[1]) if rows.ndim == 4 else rows
