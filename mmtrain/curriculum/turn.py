"""Where one stream stands in its passes, and the samples that it gives next."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmtrain.curriculum.permutation import permute
from mmtrain.curriculum.pool import Pool
from mmtrain.curriculum.streams import Integers


class Chosen(NamedTuple):
    """A pool, None = the whole stream, and the number of the first pass after that has another; None = no such pass."""

    pool: Pool | None
    until: int | None


@dataclass(frozen=True, eq=False)
class Turn:
    """`number`: of the pass under way, from 0, or of the next where `offset`, the samples that it has given, is 0.

    `pool`: of the pass under way, or of the last one; None = the whole stream. `ended`: the pool of the last pass that ended
    in the window before this turn, if one did.
    """

    number: int = 0
    offset: int = 0
    pool: Pool | None = None
    ended: Pool | None = None

    def pool_size(self, size: int) -> int:
        """Samples of the pool, in a stream of `size`."""
        return size if self.pool is None else self.pool.size

    def next_number(self) -> int:
        """The number of the next pass to begin."""
        return self.number + (self.offset > 0)


class Span(NamedTuple):
    """Samples of a stream from one pool: positions [n], and the numbers of their passes [n]."""

    positions: Integers
    passes: Integers
    pool: Pool | None


def draw(turn: Turn, count: int, *, size: int, key: int, choose: Callable[[int], Chosen]) -> tuple[list[Span], Turn]:
    """The next `count` samples of a stream of `size`, and the turn after them.

    A pass under way goes on in its own pool. `choose` gives the pool of one that begins, by its number.
    """
    spans = []
    while count:
        pool, until = Chosen(turn.pool, turn.number + 1) if turn.offset else choose(turn.number)
        whole = size if pool is None else pool.size
        taken = count if until is None else min(count, (until - turn.number) * whole - turn.offset)
        passes, places = np.divmod(turn.offset + np.arange(taken, dtype=np.int64), whole)
        passes += turn.number
        shuffled = permute(places, passes, size=whole, key=key)
        spans.append(Span(shuffled if pool is None else pool.select(shuffled), passes, pool))
        ends, offset = divmod(turn.offset + taken, whole)
        turn = Turn(turn.number + ends, offset, pool, pool if ends else turn.ended)
        count -= taken
    return spans, turn
