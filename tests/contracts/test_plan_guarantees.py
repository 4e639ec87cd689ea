"""G1-G7 of DESIGN 6 over random streams, shares, active sets, batch sizes, windows and processes."""

import tracemalloc
from itertools import pairwise
from math import sin

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from mmtrain.curriculum.decision import Decision
from mmtrain.curriculum.plan import Planner
from mmtrain.curriculum.streams import StreamSpec

MODES = ("repeat", "drop", "stop")
sizes = st.one_of(st.integers(1, 12), st.integers(13, 5000), st.sampled_from([4096, 4097, 10**6 + 3, 10**9 + 7, 2**40]))


def lengths(positions):
    return positions * 7919 % 101


@st.composite
def worlds(draw):
    count = draw(st.integers(1, 6))
    streams = [StreamSpec(name=f"s{k}", size=draw(sizes), lengths=lengths if k % 3 else None) for k in range(count)]
    exponents = draw(st.lists(st.floats(-6, 6), min_size=count, max_size=count))
    planner = Planner(
        streams=streams,
        batch_size=draw(st.integers(1, 40)),
        seed=draw(st.integers(0, 2**63)),
        exhausted=draw(st.sampled_from(MODES)),
        group_by_length=draw(st.booleans()),
    )
    kind = draw(st.sampled_from(["constant", "moving", "switching", "one at a time"]))
    windows = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    return planner, decision(planner.names, exponents, kind), windows


def decision(names, exponents, kind):
    """Shares as unequal as 1e-6 to 1e6, still, moving with the step, or with streams that come and go."""

    def weight(step, name):
        k = names.index(name)
        wave = sin(0.7 * step * (k + 1)) if kind in ("moving", "switching") else 1.0
        return 10 ** (exponents[k] * wave)

    def shares(step, active):
        if kind == "one at a time":
            return dict.fromkeys(active, 0.0) | {active[step % len(active)]: 1.0}
        total = sum(weight(step, name) for name in active)
        return {name: weight(step, name) / total for name in active}

    def active(step):
        chosen = tuple(name for k, name in enumerate(names) if (step // 3 * 2654435761 >> (k + 4)) & 1)
        return chosen if chosen and kind == "switching" else names

    return Decision(shares=shares, active=active)


def simulate(planner, rule, windows):
    """All window plans, with the state before each."""
    state, step, plans = planner.start(), 0, []
    for num_steps in windows:
        plan, after = planner.plan(state, rule, first_step=step, num_steps=num_steps)
        plans.append((state, plan))
        state, step = after, plan.stop_step
        if plan.ended:
            break
    return plans


def batches(plans):
    return [plan.batch(step) for _, plan in plans for step in range(plan.first_step, plan.stop_step)]


def pass_numbers(plans):
    return [plan.passes(step) for _, plan in plans for step in range(plan.first_step, plan.stop_step)]


def check_passes(size, positions_by_batch):
    """G2, G3: after every batch each sample has been seen floor(n / size) times or once more, n the samples drawn.

    So no pass repeats or leaves out a sample, and only a batch that spans two passes holds one twice.
    """
    if size > 10_000:
        everything = np.concatenate(positions_by_batch)
        assert len(np.unique(everything)) == len(everything), "a sample is repeated within a pass"
        return
    seen = np.zeros(size, int)
    for positions in positions_by_batch:
        np.add.at(seen, positions, 1)
        whole = seen.sum() // size
        assert seen.min() >= whole, "a sample is left out of a pass"
        assert seen.max() <= whole + 1, "a sample is repeated within a pass"


def check_pass_numbers(size, passes_by_batch):
    """Every pass of a whole stream holds `size` samples, the last one the rest, and no batch goes back to one before."""
    passes = np.concatenate(passes_by_batch)
    whole, rest = divmod(len(passes), size)
    assert np.bincount(passes).tolist() == [size] * whole + [rest] * bool(rest)
    for before, after in pairwise(found for found in passes_by_batch if len(found)):
        assert before.max() <= after.min(), "a pass goes on after the next has begun"


def check_drift(due, counts, bound):
    """G1: what each stream got stays within `bound` samples of what was due to it, at every step."""
    drift = np.cumsum(np.asarray(due) - np.asarray(counts), axis=0)
    assert np.abs(drift).max(initial=0) <= bound + 1e-6, f"drift {np.abs(drift).max()} over {bound}"


def check_guarantees(planner, rule, windows):
    plans = simulate(planner, rule, windows)
    drawn, size_of = batches(plans), [stream.size for stream in planner.streams]
    for _, plan in plans:
        assert plan.stream.shape == plan.position.shape == (plan.num_steps, planner.batch_size)  # G1
    for step, (stream, position) in enumerate(drawn):
        on = {planner.names.index(name) for name in rule.active(step)}
        assert set(stream.tolist()) <= on
        assert (position >= 0).all()
        assert (position < np.array(size_of)[stream]).all()  # G7
    for k, size in enumerate(size_of):
        mine = [position[stream == k] for stream, position in drawn]
        if mine:
            check_passes(size, mine)  # G2, G3
            own = [numbers[stream == k] for (stream, _), numbers in zip(drawn, pass_numbers(plans), strict=True)]
            check_pass_numbers(size, own)
        if planner.exhausted != "repeat":
            assert sum(map(len, mine)) <= size
    if planner.exhausted == "drop" and plans[-1][1].ended:
        used = np.bincount(np.concatenate([[], *(stream for stream, _ in drawn)]).astype(int), minlength=len(size_of))
        left = dict(zip(planner.names, np.array(size_of) - used, strict=True))
        assert sum(left[name] for name in rule.active(len(drawn))) < planner.batch_size  # no batch could be filled
    if planner.exhausted == "repeat":
        assert sum(plan.num_steps for _, plan in plans) == sum(windows)
        given = [rule.shares(step, rule.active(step)) for step in range(len(drawn))]
        due = [[planner.batch_size * by_name.get(name, 0.0) for name in planner.names] for by_name in given]
        counts = np.concatenate([plan.counts for _, plan in plans])
        assert (counts == [np.bincount(stream, minlength=len(size_of)) for stream, _ in drawn]).all()
        check_drift(due, counts, (len(size_of) - 1) / 2)


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_guarantees(world):
    check_guarantees(*world)


@pytest.mark.parametrize("grouped", [False, True])
def test_several_passes_of_a_large_stream(grouped):
    streams = [StreamSpec(name="s0", size=4099, lengths=lengths), StreamSpec(name="s1", size=10**9, lengths=lengths)]
    planner = Planner(streams=streams, batch_size=64, seed=1, group_by_length=grouped)
    check_guarantees(planner, decision(planner.names, [1.0, 0.5], "constant"), [50] * 5)
    first, second = (simulate(planner, decision(("s0", "s1"), [9, -9], "constant"), [50] * 3)[k][1] for k in (0, 2))
    assert not (first.position == second.position).all()  # each pass is shuffled anew


@pytest.mark.parametrize("grouped", [False, True])
def test_memory_does_not_grow_with_the_streams(grouped):
    def peak(size):
        streams = [StreamSpec(name=f"s{k}", size=size, lengths=lengths) for k in range(5)]
        planner = Planner(streams=streams, batch_size=32, seed=1, group_by_length=grouped)
        tracemalloc.start()
        simulate(planner, decision(planner.names, [0.0] * 5, "constant"), [50] * 3)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(10**9) <= peak(1000) + 50_000


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(worlds())
def test_guarantees_at_length(world):
    check_guarantees(*world)


@settings(max_examples=60, deadline=None)
@given(worlds(), st.integers(1, 8))
def test_every_process_computes_the_same_plan_and_takes_its_slice(world, processes):
    planner, rule, windows = world
    other = Planner(
        streams=planner.streams,
        batch_size=planner.batch_size,
        seed=planner.seed,
        exhausted=planner.exhausted,
        group_by_length=planner.group_by_length,
    )
    for (state, plan), (_, again) in zip(simulate(planner, rule, windows), simulate(other, rule, windows), strict=True):
        assert (plan.stream == again.stream).all()
        assert (plan.position == again.position).all()
        ahead, _ = planner.plan(state, rule, first_step=plan.first_step, num_steps=max(plan.num_steps, 1))
        assert (ahead.position == plan.position).all()  # reading again, or ahead, advances nothing
        for step in range(plan.first_step, plan.stop_step):
            slices = [plan.slice(step, rank=rank, world=processes) for rank in range(processes)]
            lengths_ = [len(position) for _, position in slices]
            assert max(lengths_) - min(lengths_) <= 1
            stream, position = plan.batch(step)
            pairs = sorted(zip(stream.tolist(), position.tolist(), strict=True))
            assert pairs == sorted((int(s), int(p)) for part in slices for s, p in zip(*part, strict=True))


def test_the_checks_catch_what_they_are_for():
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError, match=r"repeated|left out"):
        check_passes(50, [rng.integers(0, 50, 10) for _ in range(20)])  # drawn with replacement
    with pytest.raises(AssertionError, match="left out"):
        check_passes(10, [np.arange(4), np.arange(4, 8), np.arange(4)])  # the last incomplete batch thrown away
    due = np.tile([3.2, 3.4, 3.4], (100, 1))
    with pytest.raises(AssertionError, match="drift"):
        check_drift(due, np.tile([3, 3, 4], (100, 1)), 3)  # largest remainder without a carry
    with pytest.raises(AssertionError, match="drift"):
        check_drift(due, np.ceil(due), 3)  # a batch that swells with ceil()
    with pytest.raises(AssertionError, match="left out"):
        check_passes(10, evened_batches(10, batch=4, processes=2) * 2)  # two passes: some samples four times, others twice


def evened_batches(size, *, batch, processes):
    """The global batches of a pass as accelerate's `even_batches` makes them: filled up with samples of its beginning."""
    sampler = BatchSampler(range(size), batch, drop_last=False)
    shards = [BatchSamplerShard(sampler, processes, rank, even_batches=True) for rank in range(processes)]
    return [np.concatenate(parts) for parts in zip(*shards, strict=True)]
