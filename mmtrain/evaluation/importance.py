"""Permutation importance of whole modalities (Breiman 2001, "Random Forests", section 10, with a modality for a variable).

What a modality is worth to a model is what the metric loses where it says nothing of its sample any more: each sample gets
that of another one of its stream. Only samples that have the modality take part, so that each keeps which modalities it
has: what is measured is what the modality says, not that it is there. A swap with the masks would mix in what a missing
modality costs, which robustness measures by itself, make samples that no data set has, and leave some without anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mmtrain.data.augment.protocol import keyed_generator
from mmtrain.data.dataset import Sample, Stream
from mmtrain.data.schema import TEXT, TEXTS
from mmtrain.evaluation.metrics import is_lower_better
from mmtrain.evaluation.predictions import Predictions
from mmtrain.evaluation.primary import primary_statistic
from mmtrain.evaluation.statistics import grouped_bootstrap

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What a task's main metric loses: `value` less `permuted`, or the other way round where lower is better.

    `low`, `high`: a 95 % interval of the drop, from groups drawn anew, alike for both; over the swaps that were made.
    """

    modality: str
    task: str
    metric: str
    value: float
    permuted: float  # the mean over the repeats
    drop: float
    low: float
    high: float
    repeats: int
    num_swapped: int  # samples of the split that have the modality


class Swap:
    """An alteration: each sample's modality is that of a sample of its stream, by a permutation of those that have it.

    The permutation is uniform (some samples may keep their own), keyed by (seed, repeat, stream, modality).
    """

    def __init__(self, streams: Sequence[Stream], *, modality: str, seed: int, repeat: int) -> None:
        self.modality, self.num_swapped = modality, 0
        self._donors: dict[str, tuple[Index, Index]] = {}
        for stream in streams:
            present = stream.present().get(modality, np.zeros(len(stream), np.bool_))
            members = stream.indices[present]  # ascending
            own = keyed_generator(seed, "importance", repeat, stream.name, modality)
            self._donors[stream.name] = members, members[own.permutation(len(members))]
            self.num_swapped += len(members)

    def __call__(self, sample: Sample, stream: Stream) -> Sample:
        """The sample of a stream, with the modality of another one; itself where it has none."""
        members, donors = self._donors[stream.name]
        place = int(np.searchsorted(members, sample.index))
        if place == len(members) or members[place] != sample.index:
            return sample
        donor = int(donors[place])
        if self.modality not in TEXTS:
            rows = stream.store.rows(self.modality, donor)
            return replace(sample, features={**sample.features, self.modality: rows})
        text = stream.store.text(donor, self.modality)
        return replace(sample, text=text) if self.modality == TEXT else replace(sample, second_text=text)


def importance_of(
    modality: str,
    clean: Predictions,
    permuted: Sequence[Predictions],
    *,
    num_swapped: int,
    seed: int,
) -> Importance:
    """One task's, from predictions of the same samples as they are and with the modality swapped, one for each repeat."""
    metric, whole = primary_statistic(clean)
    parts = [primary_statistic(item)[1] for item in permuted]
    sign = -1.0 if is_lower_better(metric) else 1.0

    def without(index: Index) -> float:
        return float(np.mean([part(index) for part in parts]))

    def drop(index: Index) -> float:
        return sign * (whole(index) - without(index))

    everything = np.arange(len(clean))
    interval = grouped_bootstrap(drop, clean.sources, seed=seed)
    return Importance(
        modality=modality,
        task=clean.task,
        metric=metric,
        value=whole(everything),
        permuted=without(everything),
        drop=drop(everything),
        low=interval.low,
        high=interval.high,
        repeats=len(parts),
        num_swapped=num_swapped,
    )
