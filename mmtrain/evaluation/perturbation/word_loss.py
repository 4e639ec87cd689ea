"""Texts that lack some of their words."""

from typing import ClassVar

from mmtrain.data.augment.protocol import Kind
from mmtrain.data.augment.word_dropout import WordDropout
from mmtrain.data.dataset import Sample, Stream
from mmtrain.evaluation.perturbation.protocol import generator_for, has, with_words, words_of


class WordLoss:
    """The augmentation word_dropout at evaluation: each word is left out with the level as its probability, never all."""

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
        words = WordDropout(probability=level)(" ".join(words_of(sample, self.modality)), own)
        return with_words(sample, self.modality, words.split())
