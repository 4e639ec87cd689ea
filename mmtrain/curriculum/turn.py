"""Where one stream stands in its passes, and the samples that it gives next."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmtrain.curriculum.permutation import permute
from mmtrain.curriculum.pool import Pool
from mmtrain.curriculum.streams import Integers

# number of a pass (from 0) -> the pool of its samples, None = the whole stream. Pure.
Choice = Callable[[int], Pool | None]


@dataclass(frozen=True, eq=False)
class Turn:
    """`number`: of the pass under way, or of the next where `offset`, the samples that it has given, is 0.

    `pool`: of the pass under way, or of the last one; None = the whole stream. `decided`: number of the pass that the pool
    was decided for, the first of those that began in the same window.
    """

    number: int = 0
    offset: int = 0
    pool: Pool | None = None
    decided: int = 0

    def pool_size(self, size: int) -> int:
        """Samples of the pool, in a stream of `size`."""
        return size if self.pool is None else self.pool.size

    def next_number(self) -> int:
        """The number of the next pass to begin."""
        return self.number + (self.offset > 0)


@dataclass(frozen=True, eq=False)
class Drawn:
    """n samples of a stream with the numbers of their passes, and the turns `before` and `after` them.

    The first `num_old` are of the pass under way before, and from its pool; the others are from the pool after.
    """

    positions: Integers
    passes: Integers
    num_old: int
    before: Turn
    after: Turn


def draw(turn: Turn, count: int, *, size: int, key: int, choose: Choice) -> Drawn:
    """The next `count` samples of a stream of `size`.

    A pass under way goes on in its own pool. All that begin now share the pool that `choose` gives for the first of them;
    it is asked only where one begins.
    """
    left = turn.pool_size(size) - turn.offset if turn.offset else 0
    old, first = min(count, left), turn.next_number()
    here = np.full(old, turn.number, np.int64)
    positions = _positions(turn.pool, turn.offset + np.arange(old, dtype=np.int64), here, size=size, key=key)
    if count <= left:
        ends = turn.offset > 0 and count == left
        number, offset = (first, 0) if ends else (turn.number, turn.offset + count)
        after = Turn(number, offset, turn.pool, turn.decided)
        return Drawn(positions, here, old, turn, after)
    pool, new = choose(first), count - old
    passes, places = np.divmod(np.arange(new, dtype=np.int64), size if pool is None else pool.size)
    passes += first
    after = Turn(int(passes[-1]), int(places[-1]) + 1, pool, first)
    if after.offset == after.pool_size(size):
        after = Turn(after.number + 1, 0, pool, first)
    positions = np.concatenate([positions, _positions(pool, places, passes, size=size, key=key)])
    return Drawn(positions, np.concatenate([here, passes]), old, turn, after)


def _positions(pool: Pool | None, places: Integers, passes: Integers, *, size: int, key: int) -> Integers:
    """Where the shuffles of these passes lead from these places, [n]."""
    if not len(places):
        return places
    shuffled = permute(places, passes, size=size if pool is None else pool.size, key=key)
    return shuffled if pool is None else pool.select(shuffled)
