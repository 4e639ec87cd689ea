"""Texts that lack some of their words."""

from itertools import compress
from typing import ClassVar

from mmtrain.data.augment.protocol import Kind
from mmtrain.data.dataset import Sample, Stream
from mmtrain.evaluation.perturbation.protocol import generator_for, has, with_words, words_of


class WordLoss:
    """Each word is left out with the level as its probability; where none would stay, the one that stays longest does.

    The augmentation `word_dropout` draws the word that stays anew, so that at a higher level it could be another.
    Source: Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", word dropout.
    """

    name: ClassVar[str] = "word_dropout"
    reads: ClassVar[frozenset[Kind]] = frozenset({"text"})
    levels: ClassVar[tuple[float, ...]] = (0.25, 0.5, 0.75)
    most: ClassVar[float] = 1.0
    unit: ClassVar[str] = "share of words left out"
    is_random: ClassVar[bool] = True

    def __init__(self, *, modality: str, seed: int) -> None:
        self.modality, self.seed = modality, seed

    def __call__(self, sample: Sample, stream: Stream, *, level: float, repeat: int) -> Sample:
        if not has(sample, self.modality):
            return sample
        own = generator_for(self.name, sample, stream, modality=self.modality, seed=self.seed, repeat=repeat)
        words = words_of(sample, self.modality)
        lots = own.random(len(words))
        kept = lots >= min(level, lots.max())
        return with_words(sample, self.modality, list(compress(words, kept)))
