"""Where a token budget cuts a batch: padded sizes and places by hand, and the fewest parts there can be by trying all."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from mmtrain.engine.cutting import cut, fewest, padded_size


def of(*rows: object) -> np.ndarray:
    """Lengths [n, M]; a bare number is a sample of one modality."""
    return np.array([row if isinstance(row, tuple) else (row,) for row in rows], np.int64)


def parts(lengths: np.ndarray, budget: int, *, most: int = 100, count: int | None = None) -> list[list[int]]:
    count = fewest(lengths, budget=budget, most=most) if count is None else count
    return [part.tolist() for part in cut(lengths, budget=budget, most=most, count=count)]


def test_positions_are_samples_by_the_longest_of_each_modality() -> None:
    assert padded_size(of(3, 5, 2)) == 3 * 5
    assert padded_size(of((3, 10), (5, 1))) == 2 * (5 + 10)
    assert padded_size(of((3, 0), (5, 0))) == 2 * (5 + 1)  # a modality that all lack has one masked row


def test_samples_of_like_length_stand_together() -> None:
    """10, 9 in 20 positions, then 4, 3, 3 and 1 in 16: uncut, six samples of 10 are 60."""
    lengths = of(3, 10, 1, 9, 3, 4)
    assert parts(lengths, 20) == [[1, 3], [0, 2, 4, 5]]
    assert parts(lengths, 60) == [[0, 1, 2, 3, 4, 5]]
    assert parts(lengths, 59) == [[1, 3], [0, 2, 4, 5]]  # the most even of two: 20 and 16


def test_a_sample_over_the_budget_stands_alone() -> None:
    assert parts(of(3, 50, 40, 2), 10) == [[1], [2], [0, 3]]
    assert parts(of(3, 3), 1) == [[0], [1]]


def test_modalities_are_added_up() -> None:
    """Two samples of 4 tokens and 1 row, two of 1 and 4: together 4 x 8; in pairs 2 x 5."""
    lengths = of((4, 1), (4, 1), (1, 4), (1, 4))
    assert parts(lengths, 32) == [[0, 1, 2, 3]]
    assert parts(lengths, 31) == [[0, 1], [2, 3]]


def test_ties_go_by_place_and_the_number_of_samples_is_bounded_too() -> None:
    assert parts(of(2, 2, 2, 2, 2), 100, most=2) == [[0, 1], [2, 3], [4]]
    assert parts(of(2, 2, 2, 2, 2), 4, most=3) == [[0, 1], [2, 3], [4]]


def test_more_parts_than_needed_are_as_small_as_can_be() -> None:
    lengths = of(8, 8, 2, 2, 2, 2)
    assert parts(lengths, 48) == [[0, 1, 2, 3, 4, 5]]
    assert parts(lengths, 48, count=2) == [[0, 1], [2, 3, 4, 5]]
    assert parts(lengths, 48, count=3) == [[0], [1], [2, 3, 4, 5]]
    assert parts(lengths, 48, count=5) == [[0], [1], [2], [3], [4, 5]]
    assert parts(lengths, 48, count=6) == parts(lengths, 48, count=7) == [[0], [1], [2], [3], [4], [5]]


@pytest.mark.parametrize("seed", range(12))
def test_no_other_cut_has_fewer_parts_or_a_smaller_largest_one(seed: int) -> None:
    """Of one modality, against every partition of the sorted samples into stretches."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 30, size=8)[:, None]
    budget, most = int(random.integers(30, 120)), int(random.integers(2, 6))
    ordered = np.sort(lengths, axis=0)

    def largest(places: tuple[int, ...]) -> int:
        borders = [0, *places, len(ordered)]
        pieces = [ordered[begin:end] for begin, end in pairwise(borders)]
        return max(10**9 if len(piece) > most else padded_size(piece) for piece in pieces)

    best = {count: min(map(largest, combinations(range(1, 8), count - 1))) for count in range(1, 9)}
    needed = fewest(lengths, budget=budget, most=most)
    assert needed == min(count for count, size in best.items() if size <= budget)
    for count in range(needed, 9):
        found = cut(lengths, budget=budget, most=most, count=count)
        assert sorted(np.concatenate(found).tolist()) == list(range(8))
        assert len(found) == count
        assert max(padded_size(lengths[part]) for part in found) == best[count]
