"""Word dropout: a text without some of its words."""

from itertools import compress
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from mmtrain.data.augment.protocol import Kind
from mmtrain.section import Section


class WordDropoutConfig(Section):
    """Whole words are left out, each with a probability of its own, never all."""

    name: Literal["word_dropout"] = "word_dropout"
    reads: ClassVar[Kind] = "text"
    probability: float = Field(default=0.1, ge=0, le=1, description="That a word is left out; the paper's best is 0.3.")

    def build(self) -> "WordDropout":
        return WordDropout(probability=self.probability)


class WordDropout:
    """Text -> text: what white space separates is left out with the probability; where nothing would stay, one word does.

    Which one is uniform. Single spaces separate what stays of a text that lost a word; the tokenizer sees no more of it.
    Source: Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", word dropout.
    """

    def __init__(self, *, probability: float) -> None:
        self.probability = probability

    def __call__(self, value: str, generator: np.random.Generator) -> str:
        words = value.split()
        kept = generator.random(len(words)) >= self.probability
        if kept.all():
            return value
        if not kept.any():
            kept[generator.integers(len(words))] = True
        return " ".join(compress(words, kept))
