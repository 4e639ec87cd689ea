"""CH-SIMS: sentiment from -1 to 1 as classes of two, three and five between fixed edges."""

from typing import Literal

import numpy as np

from mmtrain.evaluation.conventions.classes import Classes, Floats, binned
from mmtrain.evaluation.correlation import correlation, mean_absolute_error, pearson_correlation
from mmtrain.evaluation.moments import Moments, mean_of
from mmtrain.section import Section

_EDGES = {2: (0.0,), 3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}


class SimsConfig(Section):
    """Acc-2 with its F1, Acc-3, Acc-5, and MAE and Corr of values cut to -1 .. 1; as MMSA measures them."""

    name: Literal["sims"] = "sims"

    @property
    def names(self) -> tuple[str, ...]:
        """What it gives beside the metrics of every regression."""
        return ("acc2", "f1", "acc3", "acc5", "clipped_mae", "clipped_pearson")

    def value(self, metric: str, values: Floats, labels: Floats) -> float:
        """A metric of predicted values and labels [N]; NaN where no sample counts."""
        if not metric.startswith("clipped"):
            return _classes(metric, values, labels).value("weighted_f1" if metric == "f1" else "accuracy")
        values, labels = np.clip(values, -1, 1), np.clip(labels, -1, 1)
        return mean_absolute_error(values, labels) if metric == "clipped_mae" else pearson_correlation(values, labels)

    def moments(self, metric: str, values: Floats, labels: Floats) -> Moments:
        """The same as sums over samples."""
        if not metric.startswith("clipped"):
            return _classes(metric, values, labels).moments("weighted_f1" if metric == "f1" else "accuracy")
        values, labels = np.clip(values, -1, 1), np.clip(labels, -1, 1)
        return mean_of(np.abs(values - labels), (0, 2)) if metric == "clipped_mae" else correlation(values, labels)


def _classes(metric: str, values: Floats, labels: Floats) -> Classes:
    edges = _EDGES[2 if metric == "f1" else int(metric.removeprefix("acc"))]
    return Classes(binned(labels, edges), binned(values, edges), len(edges) + 1, np.ones(len(labels), bool))
