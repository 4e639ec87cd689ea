"""The cost model of docs/scaling.md, by hand."""

import pytest

from benchmarks.cost_model import BUCKET, Machine, Work, all_reduce, exposed, step

SLOW = Machine("slow", peak=1000.0, memory=1e9, inside=100.0, between=10.0, utilization=0.5, bus=1.0, latency=0.0)
WORK = Work(layers=1, width=2, vocabulary=4, rest=10, tokens=3)


def test_operations_of_a_sample():
    assert WORK.products == 48  # 4 x 2^2 of attention, 8 x 2^2 behind it
    assert WORK.parameters == 48 + 4 * 2 + 512 * 2 + 10
    assert WORK.flops == 6 * 58 * 3 + 12 * 1 * 2 * 9
    assert WORK.activations(heads=2) == 1 * 3 * 2 * (34 + 5 * 2 * 3 / 2)


def test_a_ring():
    assert all_reduce(80.0, 1, SLOW) == 0
    assert all_reduce(80.0, 2, SLOW) == pytest.approx(2 * 1 / 2 * 80 / 100)
    assert all_reduce(80.0, 8, SLOW) == pytest.approx(2 * 7 / 8 * 80 / 100)
    assert all_reduce(80.0, 16, SLOW) == pytest.approx(2 * 15 / 16 * 80 / 10)  # by what connects nodes


def test_hops_of_two_buckets():
    late = Machine("late", peak=1.0, memory=1.0, inside=1e30, between=1e30, latency=1.0)
    assert all_reduce(2.0 * BUCKET, 64, late) == pytest.approx(2 * 6 * 2)


def test_what_a_step_waits_for():
    assert exposed(3.0, behind=2.0) == 1
    assert exposed(1.0, behind=2.0) == 0
    found = step(WORK, SLOW, processes=16, samples=10, rate=1.0)
    compute = 10 * (6 * 58 * 3 + 216) / 500
    reduce = 2 * 15 / 16 * 4 * 1090 / 10
    assert (found.compute, found.communication, found.loading) == pytest.approx((compute, reduce, 10))
    assert found.total == pytest.approx(compute + reduce - 2 / 3 * compute)  # reading is hidden
    assert found.bottleneck == "network"
    slow = step(WORK, SLOW, processes=1, samples=10, rate=0.01)
    assert (slow.total, slow.bottleneck) == (pytest.approx(1000), "loading")
    assert step(WORK, SLOW, processes=1, samples=10, rate=1e6).bottleneck == "compute"
