"""Which samples of a stream a pass walks through: a set of positions, one bit each, that can be counted into."""

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.streams import Integers

Bits = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_BLOCK = 64  # bytes between two entries of the directory
_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")  # [256, 8]
_COUNT = _OF_BYTE.sum(axis=1, dtype=np.uint8)  # [256] bits that are set
_PLACE = np.argsort(1 - _OF_BYTE, axis=1, kind="stable").astype(np.uint8)  # [256, 8] the r-th set bit, for r below the count


class Pool:
    """Some of the N samples of a stream, at least one, in the order of their positions.

    `bits`: uint8 [ceil(N / 8)], sample i is bit i % 8 of byte i // 8 (the lowest first). Memory: one bit a sample, and
    eight bytes for every 512 samples. Errors: ValueError for an empty pool.
    """

    def __init__(self, bits: Bits) -> None:
        self._bytes = len(bits)
        self._blocks = np.zeros((-(-len(bits) // _BLOCK), _BLOCK), np.uint8)
        self._blocks.reshape(-1)[: len(bits)] = bits
        counts = _COUNT[self._blocks].sum(axis=1, dtype=np.int64)
        self._before = np.concatenate([[0], np.cumsum(counts)])  # samples of the pool before each block
        self.size = int(self._before[-1])
        if not self.size:
            raise ValueError("a pool holds at least one sample")

    @classmethod
    def of(cls, mask: Mask) -> "Pool":
        """The samples where `mask` [N] is true."""
        return cls(np.packbits(mask, bitorder="little"))

    @property
    def bits(self) -> Bits:
        """What `Pool(bits)` makes this pool from."""
        return self._blocks.reshape(-1)[: self._bytes]

    def mask(self, size: int) -> Mask:
        """Which of the stream's `size` samples are in the pool, [size]."""
        return np.unpackbits(self.bits, count=size, bitorder="little").astype(np.bool_)

    def select(self, ranks: Integers) -> Integers:
        """The positions [n] of the pool's samples number `ranks` [n], counted from 0; memory grows with n alone."""
        block = np.searchsorted(self._before, ranks, side="right") - 1
        rest = ranks - self._before[block]
        words = self._blocks[block]  # [n, 64]
        counts = np.cumsum(_COUNT[words], axis=1, dtype=np.int16)
        byte = (counts <= rest[:, None]).sum(axis=1)
        row = np.arange(len(ranks))
        word = words[row, byte]
        rest -= counts[row, byte] - _COUNT[word]
        positions: Integers = (block * _BLOCK + byte) * 8 + _PLACE[word, rest]
        return positions
