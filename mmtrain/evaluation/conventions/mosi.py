"""CMU-MOSI and CMU-MOSEI: sentiment from -3 to 3 as classes of two, five and seven."""

from typing import Literal

import numpy as np

from mmtrain.evaluation.conventions.classes import Classes, Floats, as_read, rounded
from mmtrain.evaluation.moments import Moments
from mmtrain.section import Section


class MosiConfig(Section):
    """Acc-2 and F1 with 0 (negative or not) and without (negative or positive), Acc-5 and Acc-7; as MMSA measures them."""

    name: Literal["mosi"] = "mosi"

    @property
    def names(self) -> tuple[str, ...]:
        """What it gives beside the metrics of every regression."""
        return ("acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc5", "acc7")

    def value(self, metric: str, values: Floats, labels: Floats) -> float:
        """A metric of predicted values and labels [N]; NaN where no sample counts."""
        return _classes(metric, values, labels).value(_kind(metric))

    def moments(self, metric: str, values: Floats, labels: Floats) -> Moments:
        """The same as sums over samples."""
        return _classes(metric, values, labels).moments(_kind(metric))


def _kind(metric: str) -> str:
    return "weighted_f1" if metric.startswith("f1") else "accuracy"


def _classes(metric: str, values: Floats, labels: Floats) -> Classes:
    everything = np.ones(len(labels), bool)
    if metric in ("acc5", "acc7"):
        limit = {"acc5": 2, "acc7": 3}[metric]
        return Classes(rounded(labels, limit), rounded(values, limit), 2 * limit + 1, everything)
    guess, truth = as_read(values), as_read(labels)
    if metric.endswith("has0"):
        return Classes((truth >= 0).astype(np.int64), (guess >= 0).astype(np.int64), 2, everything)
    return Classes((truth > 0).astype(np.int64), (guess > 0).astype(np.int64), 2, truth != 0)
