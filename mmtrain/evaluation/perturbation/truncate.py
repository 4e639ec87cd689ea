"""Sequences that end too soon."""

import math
from dataclasses import replace
from typing import Any, ClassVar

from mmtrain.data.augment.protocol import Kind
from mmtrain.data.dataset import Sample, Stream
from mmtrain.data.schema import TEXTS
from mmtrain.evaluation.perturbation.protocol import has, with_words, without, words_of


class Truncate:
    """Of n rows (of a text: words) the first ceil((1 - level) n) are kept; at level 1 none: the modality is missing."""

    name: ClassVar[str] = "truncate"
    reads: ClassVar[frozenset[Kind]] = frozenset({"text", "features", "images"})
    levels: ClassVar[tuple[float, ...]] = (0.25, 0.5, 0.75)
    most: ClassVar[float] = 1.0
    unit: ClassVar[str] = "share of rows or words cut from the end"
    is_random: ClassVar[bool] = False

    def __init__(self, *, modality: str, seed: int) -> None:  # noqa: ARG002 (nothing is random)
        self.modality = modality

    def __call__(self, sample: Sample, stream: Stream, *, level: float, repeat: int) -> Sample:  # noqa: ARG002
        if not has(sample, self.modality):
            return sample
        is_text = self.modality in TEXTS
        rows: Any = words_of(sample, self.modality) if is_text else sample.features[self.modality]
        count = math.ceil(round((1 - level) * len(rows), 6))  # rounded, for 1 - 0.7 is a little more than 0.3
        if count == 0:
            return without(sample, [self.modality])
        if is_text:
            return with_words(sample, self.modality, rows[:count])
        return replace(sample, features={**sample.features, self.modality: rows[:count]})
