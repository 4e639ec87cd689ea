"""Samples that lack a modality: by a rate, or all of them."""

from typing import ClassVar

from mmtrain.data.augment.protocol import Kind
from mmtrain.data.dataset import Sample, Stream
from mmtrain.evaluation.perturbation.protocol import generator_for, without


class Drop:
    """Each sample loses the modality with the level as its probability, whatever else it has.

    One that has no other modality is left with nothing, and stays in the metric: the model still has to answer, from
    placeholders where it has them and from masks of False everywhere else. Level 1: nobody has it.
    """

    name: ClassVar[str] = "drop"
    reads: ClassVar[frozenset[Kind]] = frozenset({"text", "features", "images"})
    levels: ClassVar[tuple[float, ...]] = (0.25, 0.5, 0.75, 1.0)
    most: ClassVar[float] = 1.0
    unit: ClassVar[str] = "share of samples"
    is_random: ClassVar[bool] = True

    def __init__(self, *, modality: str, seed: int) -> None:
        self.modality, self.seed = modality, seed

    def __call__(self, sample: Sample, stream: Stream, *, level: float, repeat: int) -> Sample:
        own = generator_for(self.name, sample, stream, modality=self.modality, seed=self.seed, repeat=repeat)
        return without(sample, [self.modality]) if own.random() < level else sample
