"""Texts as rows that were made of them before, read in the place of a tokenizer."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mmtrain.data.cached_block import CachedBlock, Rows, text_keys
from mmtrain.errors import DataError


class CachedTexts:
    """Rows [T, H] of each text, views of mapped files; none of a blank text. A text is known by what it says alone.

    A checksum is compared when a text is read for the first time. In memory are 38 bytes a text, no rows.
    `max_tokens`, `truncation_side`: of the tokenizer; `remedy`: what to write where a text is missing or damaged.
    """

    pad_id = 0

    def __init__(
        self,
        blocks: Sequence[CachedBlock],
        *,
        max_tokens: int,
        truncation_side: Literal["left", "right"],
        remedy: str,
    ) -> None:
        self.max_tokens, self.truncation_side = max_tokens, truncation_side
        self.num_texts = self.num_truncated = 0
        self._blocks, self._remedy = list(blocks), remedy
        self._firsts = np.cumsum([0, *(len(block.keys) for block in blocks)])
        keys = np.concatenate([block.keys for block in blocks])
        self._order = np.argsort(keys, kind="stable")  # where a text stands twice, the first is taken
        self._keys = keys[self._order]
        self._is_read = np.zeros(len(keys), bool)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(H,)."""
        return self._blocks[0].rows.shape[1:]

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return self._blocks[0].rows.dtype

    def __call__(self, texts: Sequence[str]) -> list[Rows]:
        """Errors: DataError where a text is not there, or its rows are damaged."""
        nothing = np.empty((0, *self.row_shape), self.dtype)
        real = [text for text in texts if text.strip()]
        places = iter(self._places(real))
        return [self._read(text, next(places)) if text.strip() else nothing for text in texts]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many rows a call gives of each; none is read. Errors: DataError where a text is not there."""
        found = [self._block_of(place) for place in self._places([text for text in texts if text.strip()])]
        lengths = iter([len(block.rows_of(number)) for block, number in found])
        return [next(lengths) if text.strip() else 0 for text in texts]

    def _block_of(self, place: int) -> tuple[CachedBlock, int]:
        """And the number of the text in it."""
        which = int(np.searchsorted(self._firsts, place, side="right")) - 1
        return self._blocks[which], place - int(self._firsts[which])

    def _places(self, texts: Sequence[str]) -> list[int]:
        keys = text_keys(texts)
        found = np.searchsorted(self._keys, keys)
        for text, place, key in zip(texts, found, keys, strict=True):
            if place == len(self._keys) or self._keys[place] != key:
                raise DataError(f"the text '{text[:60]}' is not in the cache {self._place}. {self._remedy}")
        return [int(place) for place in self._order[found]]

    def _read(self, text: str, place: int) -> Rows:
        block, number = self._block_of(place)
        if not self._is_read[place]:
            if not block.is_of(number, text):
                raise DataError(f"{block.file} is damaged at the text '{text[:60]}'. {self._remedy}")
            self._is_read[place] = True
        self.num_texts += 1
        self.num_truncated += int(block.cut[number])
        return block.rows_of(number)

    @property
    def _place(self) -> str:
        return str(self._blocks[0].file.parent.parent)
