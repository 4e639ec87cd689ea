"""How many samples of each stream go into each batch of a window, and what happens where a stream runs out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmtrain.curriculum.apportion import apportion, to_units
from mmtrain.curriculum.decision import Decision, Names
from mmtrain.curriculum.streams import Integers

Exhausted = Literal["repeat", "drop", "stop"]


@dataclass(frozen=True)
class Allocation:
    """`counts` [S, K] samples, `carries` [K] after the last step, `shares` [K] mean over the steps.

    `ended`: fewer steps than asked for, because the next batch cannot be filled.
    """

    counts: Integers
    carries: tuple[int, ...]
    shares: tuple[float, ...]
    ended: bool


def allocate(
    decision: Decision,
    names: Names,
    *,
    steps: range,
    batch_size: int,
    carries: Sequence[int],
    left: Sequence[int] | None,
    exhausted: Exhausted,
) -> Allocation:
    """Apportion every batch of `steps` over the streams `names`.

    `left` [K]: samples that each stream has yet to give; None where streams repeat. `drop`: a stream that cannot give its
    count gives what it has left, and the other streams' shares fill the batch, in this step and from then on.
    """
    remaining = None if left is None or exhausted == "repeat" else list(left)
    rows: list[list[int]] = []
    asked: Counter[tuple[float, ...]] = Counter()
    now = list(carries)
    for step in steps:
        batch = _one_batch(decision, names, step, batch_size, now, remaining, exhausted == "drop")
        if batch is None:
            break
        shares, counts, now = batch
        rows.append(counts)
        asked[shares] += 1
        if remaining is not None:
            remaining = [have - count for have, count in zip(remaining, counts, strict=True)]
    mean = [sum(times * shares[k] for shares, times in asked.items()) / max(len(rows), 1) for k in range(len(names))]
    table = np.array(rows, dtype=np.int64).reshape(len(rows), len(names))
    return Allocation(counts=table, carries=tuple(now), shares=tuple(mean), ended=len(rows) < len(steps))


def _one_batch(  # noqa: PLR0917 - private, called once
    decision: Decision,
    names: Names,
    step: int,
    batch_size: int,
    carries: list[int],
    remaining: list[int] | None,
    drop: bool,
) -> tuple[tuple[float, ...], list[int], list[int]] | None:
    """Shares, counts and carries of one batch [K] each; None where it cannot be filled."""
    playing = decision.active(step)
    if drop and remaining is not None:
        playing = tuple(name for name in playing if remaining[names.index(name)])
    given = [0] * len(names)  # by streams that end in this batch
    first: tuple[float, ...] | None = None
    while playing:
        by_name = decision.shares(step, playing)
        shares = tuple(by_name[name] if name in playing else 0.0 for name in names)
        first = first or shares
        counts, carries_after = apportion(to_units(shares), carries, batch_size - sum(given))
        short = [] if remaining is None else [k for k, have in enumerate(remaining) if counts[k] > have]
        if not short or remaining is None:
            return first, [a + b for a, b in zip(counts, given, strict=True)], carries_after
        if not drop:
            return None
        for k in short:
            given[k] = remaining[k]
        if sum(given) == batch_size:
            return first, given, carries
        playing = tuple(name for name in playing if names.index(name) not in short)
    return None
