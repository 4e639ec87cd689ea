"""The easiest and the hardest samples of a stream, exactly as many as asked for."""

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.permutation import hash_words
from mmtrain.curriculum.pool import Mask

Floats = npt.NDArray[np.float32]


class Ranking:
    """Difficulties `values` [N] in order, without sorting them all; equally hard samples stand in the order of a keyed hash.

    So n samples are always among the n + 1 of the same values.
    """

    def __init__(self, values: Floats, *, key: int) -> None:
        self.values, self._key = values, key

    def __len__(self) -> int:
        return len(self.values)

    def easiest(self, count: int) -> Mask:
        """The `count` easiest of the N samples, 0 .. N, as a mask [N]."""
        return self._lowest(self.values, count)

    def hardest(self, count: int) -> Mask:
        """The `count` hardest of the N samples, 0 .. N, as a mask [N]."""
        return ~self._lowest(self.values, len(self) - count)

    def _lowest(self, values: Floats, count: int) -> Mask:
        if count in (0, len(values)):
            return np.full(len(values), count > 0)
        border = np.partition(values, count - 1)[count - 1]
        lowest: Mask = values < border
        ties = np.flatnonzero(values == border)
        hashes = hash_words(ties.astype(np.uint64), self._key)
        lowest[ties[np.argsort(hashes)[: count - int(lowest.sum())]]] = True
        return lowest
