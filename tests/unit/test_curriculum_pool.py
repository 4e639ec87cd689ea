"""Pools: counting into a bit set against numpy's own search, its memory, and its speed."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmtrain.curriculum.pool import Pool


def check(mask, pool):
    positions = np.flatnonzero(mask)
    assert pool.size == len(positions)
    assert (pool.select(np.arange(pool.size)) == positions).all()
    ranks = np.random.default_rng(0).integers(0, pool.size, 50)
    assert (pool.select(ranks) == positions[ranks]).all()
    assert (pool.mask(len(mask)) == mask).all()


@given(arrays(bool, st.integers(1, 3000)))
def test_select_is_the_position_of_the_rank(mask):
    if not mask.any():
        mask[-1] = True
    check(mask, Pool.of(mask))
    check(mask, Pool(Pool.of(mask).bits))


@pytest.mark.parametrize("density", [1e-4, 0.02, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 511, 512, 513, 100_003])
def test_sparse_and_dense_pools_of_sizes_round_the_borders_of_bytes_and_blocks(size, density):
    mask = np.random.default_rng(size).random(size) < density
    mask[size // 2] = True
    check(mask, Pool.of(mask))


def test_runs_of_empty_blocks_are_stepped_over():
    mask = np.zeros(512 * 9, bool)
    mask[[0, 511, 512 * 4, 512 * 8 + 511]] = True
    check(mask, Pool.of(mask))


def test_the_bits_lie_lowest_first():
    assert Pool.of(np.arange(10) == 9).bits.tolist() == [0, 2]
    assert Pool(np.array([0b101, 1], np.uint8)).select(np.array([2, 0, 1])).tolist() == [8, 0, 2]


def test_an_empty_pool_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        Pool.of(np.zeros(9, bool))


def test_a_pool_costs_a_bit_a_sample_and_a_draw_no_more_than_what_is_drawn():
    mask = np.random.default_rng(0).random(8_000_000) < 0.3
    tracemalloc.start()
    pool = Pool.of(mask)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    begun = time.perf_counter()
    pool.select(np.arange(1600))
    seconds = time.perf_counter() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1_000_000 * 1.15
    assert peak - held < 1_500_000
    assert seconds < 0.1  # about 1 ms; a walk through the 8 million samples takes longer
