"""Classes made of labels and predictions of a regression: accuracy and weighted F1 of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mmtrain.evaluation.counting import class_moments
from mmtrain.evaluation.moments import Moments

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Classes:
    """Class numbers [N] of labels and predictions, and which samples count."""

    labels: Ints
    chosen: Ints
    num_classes: int
    counts: npt.NDArray[np.bool_]

    def value(self, metric: str) -> float:
        """`accuracy`, or `weighted_f1`, by torchmetrics; NaN where no sample counts."""
        from torchmetrics.functional import classification

        if not self.counts.any():
            return float("nan")
        chosen, labels = (torch.from_numpy(values[self.counts]) for values in (self.chosen, self.labels))
        if metric == "accuracy":
            return float(classification.multiclass_accuracy(chosen, labels, self.num_classes, average="micro"))
        return float(classification.multiclass_f1_score(chosen, labels, self.num_classes, average="weighted"))

    def moments(self, metric: str) -> Moments:
        """The same as sums over samples; what does not count is in no sum."""
        found = class_moments(metric, self.labels, self.chosen, self.num_classes)
        values = np.where(self.counts[:, None], found.values, np.zeros_like(found.values))
        return Moments(values=values, of=found.of, bounds=found.bounds)


def rounded(values: Floats, limit: int) -> Ints:
    """0 .. 2 limit: the nearest whole number to a value cut to -limit .. limit, halves to the even one (numpy.round)."""
    near: Ints = np.round(np.clip(as_read(values), -limit, limit)).astype(np.int64) + limit
    return near


def binned(values: Floats, edges: tuple[float, ...]) -> Ints:
    """The number of edges that a value is above: a value at an edge is in the lower class."""
    places: Ints = np.searchsorted(np.array(edges, np.float32), as_read(values), side="left").astype(np.int64)
    return places


def as_read(values: Floats) -> npt.NDArray[np.float32]:
    """In float32, as the data sets' files have them: as float64 a label of float32 0.1 would be above 0.1."""
    return np.asarray(values, np.float32)
