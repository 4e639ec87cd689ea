"""Shares become whole samples, exactly: largest remainder with the remainder carried over, in integers (G1)."""

from collections.abc import Sequence
from functools import lru_cache
from math import fsum, isfinite

BITS = 48  # a carry stays below 2^53, which every JSON reader keeps
UNIT = 1 << BITS  # one sample


@lru_cache(maxsize=256)
def to_units(shares: tuple[float, ...]) -> tuple[int, ...]:
    """Shares that sum to 1 as integers that sum to 2^48 exactly; a share of 0 stays 0.

    Errors: ValueError for a share that is negative or not finite, or a sum further than 1e-6 from 1.
    """
    total = fsum(shares)
    if not all(isfinite(share) and share >= 0 for share in shares) or abs(total - 1) > 1e-6:
        raise ValueError(f"shares must be finite, at least 0 and sum to 1, got {shares} (sum {total})")
    exact = [share / total * UNIT for share in shares]  # times a power of two: exact
    units = [int(value) for value in exact]
    by_remainder = sorted((k for k, share in enumerate(shares) if share > 0), key=lambda k: units[k] - exact[k])
    missing = UNIT - sum(units)
    for k in by_remainder[: max(missing, 0)]:
        units[k] += 1
    units[max(by_remainder, key=lambda k: units[k])] += UNIT - sum(units)  # 0, but for rounding in the division above
    return tuple(units)


def apportion(units: Sequence[int], carries: Sequence[int], batch_size: int) -> tuple[list[int], list[int]]:
    """Whole samples of each stream for one batch, and what is carried to the next.

    `units` [K] shares that sum to 2^48, 0 = inactive: such a stream is not drawn and its carry is frozen. `carries` [K]
    in 2^-48 of a sample. A stream's credit is its carry plus its due; each gets the whole part of its credit (at least
    0), then one sample at a time goes to the largest remaining credit (or comes back from the smallest) until the batch
    is full.

    The counts sum to `batch_size`. A carry is what was due since the start less what was drawn. Starting from zero it
    stays within (K - 1) / 2 samples, for any shares and any switching of active sets, because any n streams together
    carry at least -h(n), h(n) = n (K - n) / 2, and all K together exactly 0. By induction over batches: a stream that was
    given a sample ends at most 1 below every other active stream. Of a set of n streams let r be given samples while s
    active streams stand outside (r = 0 or s = 0 cannot lower its sum). The sets of n - r and n + s streams, without those r
    and with those s, did not fall, so the set carries at least -(s h(n - r) + r h(n + s) + r s) / (r + s) >= -h(n).
    """
    members = [k for k, share in enumerate(units) if share]
    counts, rest = [0] * len(units), list(carries)
    for k in members:
        credit = rest[k] + batch_size * units[k]
        counts[k] = max(credit >> BITS, 0)
        rest[k] = credit - (counts[k] << BITS)
    missing = batch_size - sum(counts)
    while missing > 0:
        k = max(members, key=rest.__getitem__)
        counts[k], rest[k], missing = counts[k] + 1, rest[k] - UNIT, missing - 1
    while missing < 0:
        k = min((k for k in members if counts[k]), key=rest.__getitem__)
        counts[k], rest[k], missing = counts[k] - 1, rest[k] + UNIT, missing + 1
    return counts, rest
