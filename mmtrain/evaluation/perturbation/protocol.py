"""What every perturbation is: a sample with one of its modalities made worse, to a degree that can be turned up."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

import numpy as np

from mmtrain.data.augment.protocol import Kind, keyed_generator
from mmtrain.data.dataset import Sample, Stream
from mmtrain.data.schema import SECOND_TEXT, TEXT, TEXTS


class Perturbation(Protocol):
    """Made for one modality. At level 0 nothing would change, and a higher level changes more of the same.

    What is random is keyed by (seed, name, repeat, store, modality, sample id) and does not depend on the level: at a higher
    level the same samples, words and numbers are hit and further ones. A sample without the modality stays as it is.
    """

    name: ClassVar[str]
    reads: ClassVar[frozenset[Kind]]  # the modalities that it can be made for
    levels: ClassVar[tuple[float, ...]]  # where nothing else is asked for
    most: ClassVar[float]  # the highest level there is
    unit: ClassVar[str]  # what a level counts
    is_random: ClassVar[bool]

    def __init__(self, *, modality: str, seed: int) -> None:
        """For one modality of a run."""

    def __call__(self, sample: Sample, stream: Stream, *, level: float, repeat: int) -> Sample:
        """The sample of a stream at a level above 0; nothing of `sample` is written to."""


def generator_for(
    name: str, sample: Sample, stream: Stream, *, modality: str, seed: int, repeat: int
) -> np.random.Generator:
    """The random numbers of one sample's modality. Ids are unique in one store only, so its name is in the key."""
    return keyed_generator(seed, name, repeat, stream.store.name, modality, sample.id)


def has(sample: Sample, modality: str) -> bool:
    """Whether the sample has the modality; a blank text is none."""
    return bool(words_of(sample, modality)) if modality in TEXTS else modality in sample.features


def words_of(sample: Sample, modality: str) -> list[str]:
    """The words of the sample's text, or of its second one."""
    return (sample.text if modality == TEXT else sample.second_text).split()


def with_words(sample: Sample, modality: str, words: Sequence[str]) -> Sample:
    """The sample with other words in its text, or in its second one, single spaces between them."""
    text = " ".join(words)
    return replace(sample, text=text) if modality == TEXT else replace(sample, second_text=text)


def without(sample: Sample, modalities: Sequence[str]) -> Sample:
    """The sample as if it lacked these: in the batch their masks are False."""
    features = {name: rows for name, rows in sample.features.items() if name not in modalities}
    text, second = (
        "" if name in modalities else own for name, own in ((TEXT, sample.text), (SECOND_TEXT, sample.second_text))
    )
    return replace(sample, features=features, text=text, second_text=second)
