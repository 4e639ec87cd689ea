"""A small set of combinations in which every pair of rows of any two tables meets at least once."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

Pair = tuple[int, int, int, int]  # table, row, table, row


def pairwise_covering(tables: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Combinations, one row of each table in each: greedy, so not the fewest, but near the product of the two longest."""
    missing = {
        (a, i, b, j)
        for a, b in combinations(range(len(tables)), 2)
        for i in range(len(tables[a]))
        for j in range(len(tables[b]))
    }
    cover = []
    while missing:
        chosen: dict[int, int] = {}
        first = min(missing)
        chosen[first[0]], chosen[first[2]] = first[1], first[3]
        for table in range(len(tables)):
            if table not in chosen:
                chosen[table] = max(range(len(tables[table])), key=lambda row: _gain(table, row, chosen, missing))
        cover.append(tuple(tables[table][chosen[table]] for table in range(len(tables))))
        missing -= {(a, chosen[a], b, chosen[b]) for a, b in combinations(range(len(tables)), 2)}
    return cover


def _gain(table: int, row: int, chosen: dict[int, int], missing: set[Pair]) -> int:
    """How many pairs that have not met yet would meet."""
    pairs = ((table, row, other, taken) if table < other else (other, taken, table, row) for other, taken in chosen.items())
    return sum(pair in missing for pair in pairs)
