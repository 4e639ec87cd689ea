"""Misspelled words."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mmtrain.data.augment.protocol import Kind
from mmtrain.data.dataset import Sample, Stream
from mmtrain.evaluation.perturbation.protocol import generator_for, has, with_words, words_of

_ROWS = ((0.0, "qwertyuiop"), (0.25, "asdfghjkl"), (0.75, "zxcvbnm"))  # each row's shift, in keys
_PLACES = {
    letter: (shift + column, row) for row, (shift, letters) in enumerate(_ROWS) for column, letter in enumerate(letters)
}


class Typos:
    """Each word gets one typing error with the level as its probability.

    In a pair of letters that stand side by side, drawn from the word's, the two are swapped, the first is left out, a
    letter is struck behind it, or another in its place; each as likely. What is struck is a neighbor of the first on a US
    keyboard, or of a letter that has no key there another letter of the text. Where it can be nothing or a swap would
    change nothing, the first is left out. Words without such a pair stay; spaces become single ones.
    Source: the edits of Pruthi et al. 2019, "Combating Adversarial Misspellings with Robust Word Recognition", section 2.
    """

    name: ClassVar[str] = "typos"
    reads: ClassVar[frozenset[Kind]] = frozenset({"text"})
    levels: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0)
    most: ClassVar[float] = 1.0
    unit: ClassVar[str] = "share of words misspelled"
    is_random: ClassVar[bool] = True

    def __init__(self, *, modality: str, seed: int) -> None:
        self.modality, self.seed = modality, seed

    def __call__(self, sample: Sample, stream: Stream, *, level: float, repeat: int) -> Sample:
        if not has(sample, self.modality):
            return sample
        own = generator_for(self.name, sample, stream, modality=self.modality, seed=self.seed, repeat=repeat)
        words = words_of(sample, self.modality)
        lots = own.random((len(words), 4))  # whether, where, how, with which letter
        letters = sorted({letter for letter in "".join(words) if letter.isalpha()})
        typed = [misspell(word, lot[1:], letters) if lot[0] < level else word for word, lot in zip(words, lots, strict=True)]
        return with_words(sample, self.modality, typed)


def misspell(word: str, lots: npt.NDArray[np.float64], letters: list[str]) -> str:
    """The word with one error, by three numbers in [0, 1): where, how (swap, delete, insert, replace), which letter.

    `letters`: those of the text, for what no keyboard row here holds.
    """
    pairs = [at for at in range(len(word) - 1) if word[at].isalpha() and word[at + 1].isalpha()]
    if not pairs:
        return word
    at, how = pairs[int(lots[0] * len(pairs))], int(lots[1] * 4)
    before, first, second, after = word[:at], word[at], word[at + 1], word[at + 2 :]
    choices = neighbors(first) or [letter for letter in letters if letter != first]
    struck = choices[int(lots[2] * len(choices))] if choices else ""
    if how == 0 and first != second:
        return before + second + first + after
    if how == 2 and struck:
        return before + first + struck + second + after
    return before + (struck if how == 3 else "") + second + after


def neighbors(letter: str) -> list[str]:
    """The letters whose keys touch that of a letter, in its case; none where it has no key on a US keyboard."""
    if letter.lower() not in _PLACES:
        return []
    x, y = _PLACES[letter.lower()]
    near = [key for key, (u, v) in _PLACES.items() if (abs(x - u) < 1 if abs(y - v) == 1 else y == v and abs(x - u) == 1)]
    return [key.upper() for key in near] if letter.isupper() else near
