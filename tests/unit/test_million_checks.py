"""The checks that benchmarks/bench_million.py makes find what they look for."""

import numpy as np
import pytest

from benchmarks.bench_million import BATCH, NAMES, Drift, Ticked


def ticked(*draws: list[int]) -> Ticked:
    found = Ticked(4)
    for draw in draws:
        found.add(np.array(draw))
    return found


def test_whole_passes_in_any_cut_are_passed_over():
    assert ticked([2, 0], [3, 1, 1, 0, 2], [3], [0]).drawn == 9


@pytest.mark.parametrize(
    "draws",
    [
        ([2, 0], [2]),  # twice in one pass
        ([2, 2, 0, 1],),  # twice in one window: at the pass's end one is left out
        ([0, 1, 2, 3], [1, 1, 0, 2]),
    ],
)
def test_a_repeat_is_found(draws):
    with pytest.raises(AssertionError, match=r"a sample comes twice in a pass|a pass leaves samples out"):
        ticked(*draws)


def counts(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def test_a_drift_is_found_inside_a_window_and_over_windows():
    even = (0.25, 0.25, 0.25, 0.25, 0.0)
    part = BATCH // 4
    fair = [part, part, part, part, 0]
    drift = Drift(np.zeros(len(NAMES)))
    drift.add(counts(fair, [part + 1, part - 1, part, part, 0]), even)
    assert drift.worst == 1
    drift.add(counts([part + 1, part - 1, part, part, 0], fair), even)
    assert drift.due.tolist() == [-2, 2, 0, 0, 0]
    with pytest.raises(AssertionError, match=r"3\.0 samples from its share"):
        drift.add(counts([part + 1, part - 1, part, part, 0], [part - 1, part + 1, part, part, 0]), even)
    with pytest.raises(AssertionError, match="not full"):
        Drift(np.zeros(len(NAMES))).add(counts([part, part, part, part - 1, 0]), even)
