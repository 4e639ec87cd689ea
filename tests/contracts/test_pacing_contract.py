"""Every pacing, with samplers and schedules: a pass is its whole pool once, and a run resumes at any step (G1-G7)."""

import json
import random
from itertools import product
from math import inf

import numpy as np
import pytest
from curriculum_rows import PACING_ROWS, SAMPLER_ROWS, SCHEDULE_ROWS, TASKS
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from test_sampler_contract import build, streams, train

from mmtrain.curriculum.pacing import PACINGS, PacingConfig
from mmtrain.curriculum.pacing.ranking import Ranking
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.turn import Chosen

SIZES = (1, 7, 60, 401)
SAMPLERS = [row for row in SAMPLER_ROWS if row.name in ("uniform-0", "proportional-0", "dynamic_difficulty-0", "exp3-0")]
SCHEDULES = [row for row in SCHEDULE_ROWS if row.name in ("all-0", "one_at_a_time-1", "stop_and_go-0")]
PAIRS = list(product(SAMPLERS, SCHEDULES))
TRIPLES = [(p, *PAIRS[(5 * k + 4 * j) % len(PAIRS)]) for k, p in enumerate(PACING_ROWS) for j in range(3)]  # all pairs, too
COVERING = [(p, SAMPLERS[k % len(SAMPLERS)], SCHEDULES[k % len(SCHEDULES)]) for k, p in enumerate(PACING_ROWS)]
MODES = ("repeat", "drop", "stop")
rows = pytest.mark.parametrize("make", PACING_ROWS, ids=lambda row: row.name)
triples = pytest.mark.parametrize("triple", COVERING, ids=lambda triple: "-".join(row.name for row in triple))


def run_of(triple, **options):
    pacing, sampler, schedule = triple
    by_stream = (TASKS, TASKS[:1], TASKS[1:])
    return build(sampler, tasks=by_stream, pacing=pacing(()), schedule=schedule(()), **{"sizes": SIZES} | options)


def test_the_table_is_the_union():
    adapter = TypeAdapter(PacingConfig)
    configs = [row(()) for row in PACING_ROWS]
    assert [adapter.validate_python(config.model_dump()) for config in configs] == configs
    assert {type(config) for config in configs} == set(PACINGS)
    with pytest.raises(ValidationError, match="self_paced_linear"):
        adapter.validate_python({"name": "selfpaced"})


class Walk:
    """One stream's passes, followed from outside: what was drawn of it, and the pools that were decided, as masks."""

    def __init__(self, size):
        self.size, self.done, self.drawn = size, np.zeros(size, int), np.zeros(size, int)
        self.pool, self.offset, self.passes = None, 0, 0

    def draw(self, positions, decided):
        """A batch's part; `decided`: the pools [size] that stand in this window, with the passes from and until which."""
        assert ((positions >= 0) & (positions < self.size)).all()  # G7
        np.add.at(self.drawn, positions, 1)
        for _ in positions:
            if self.offset == 0:
                standing = [mask for number, until, mask in decided if number <= self.passes < until]
                assert len(standing) == 1, "a pass of two pools, or of none"
                self.pool = standing[0]
            self.offset += 1
            if self.offset == self.pool.sum():
                self.done, self.offset, self.passes = self.done + self.pool, 0, self.passes + 1
        rest = self.drawn - self.done  # of the pass under way
        assert rest.min() >= 0, "a sample of the pool is left out"
        assert rest.max() <= 1, "a sample is repeated within a pass"
        assert rest.sum() == self.offset
        if self.offset:
            assert not rest[~self.pool].any(), "a sample outside the pool is drawn"


def follow(curriculum, sizes, total=43):
    """Train while the decided pools are written down, and check every pass; returns the walks and the records."""
    walks = {f"s{k}": Walk(size) for k, size in enumerate(sizes)}
    decided, choose, plan_window = {}, curriculum._pacer.pool, curriculum.next_window

    def pool(stream, number, *, step):
        chosen, until = choose(stream, number, step=step)
        size = walks[stream].size
        mask = np.ones(size, bool) if chosen is None else chosen.mask(size)
        assert mask.any()
        assert chosen is None or not mask.all(), "a whole stream is kept as bits"
        assert until is None or until > number
        decided.setdefault((step, stream), []).append((number, inf if until is None else until, mask))
        return Chosen(chosen, until)

    def next_window(step, num_steps):
        plan = plan_window(step, num_steps)
        for stream, position in map(plan.batch, range(plan.first_step, plan.stop_step)):
            for k, (name, walk) in enumerate(walks.items()):
                walk.draw(position[stream == k], decided.get((plan.first_step, name)))
        return plan

    curriculum._pacer.pool, curriculum.next_window = pool, next_window
    trained, _, records = train(curriculum, total)
    for record in records[-1:]:
        sizes_now = {name: record["pools"][name] for name in walks}
        walked = {name: walk.passes + walk.offset / sizes_now[name] for name, walk in walks.items()}
        assert record["passes"] == pytest.approx(walked, rel=1e-5)
    return walks, trained, records


def check_guarantees(triple, sizes, batch, seed, exhausted, grouped):
    curriculum = run_of(triple, sizes=sizes, batch=batch, seed=seed, exhausted=exhausted, group_by_length=grouped)
    walks, trained, records = follow(curriculum, sizes)
    assert all(len(stream) == len(position) == batch for _, stream, position, _ in trained)  # G1
    due = {name: sum(r["shares"][name] * r["steps"] * batch for r in records) for name in walks}
    if exhausted == "repeat":
        assert len(trained) == 43
        assert all(abs(due[name] - walk.drawn.sum()) <= (len(sizes) - 1) / 2 + 0.1 for name, walk in walks.items())
    else:
        assert all(walk.passes == 0 or (walk.passes, walk.offset) == (1, 0) for walk in walks.values())


worlds = {
    "sizes": st.lists(st.one_of(st.integers(1, 30), st.integers(31, 6000)), min_size=1, max_size=5),
    "batch": st.integers(1, 33),
    "seed": st.integers(0, 2**62),
    "exhausted": st.sampled_from(MODES),
    "grouped": st.booleans(),
}


@rows
@settings(max_examples=12, deadline=None)
@given(sampler=st.sampled_from(SAMPLER_ROWS), schedule=st.sampled_from(SCHEDULE_ROWS), **worlds)
def test_passes_of_every_pacing_are_their_whole_pools_once(make, sampler, schedule, **world):
    check_guarantees((make, sampler, schedule), **world)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLER_ROWS, ids=lambda row: row.name)
def test_passes_under_every_sampler_schedule_and_pacing_are_their_whole_pools_once(sampler):
    """Every triple once, each in another world: sizes, batch, seed, what happens at a stream's end, grouping."""
    for number, (pacing, schedule) in enumerate(product(PACING_ROWS, SCHEDULE_ROWS)):
        draw = random.Random(f"{sampler.name} {number}")
        check_guarantees(
            (pacing, sampler, schedule),
            sizes=[draw.choice([1, draw.randint(2, 30), draw.randint(31, 3000)]) for _ in range(draw.randint(1, 5))],
            batch=draw.randint(1, 33),
            seed=draw.getrandbits(60),
            exhausted=draw.choice(MODES),
            grouped=draw.random() < 0.5,
        )


@pytest.mark.slow
@pytest.mark.parametrize("triple", TRIPLES, ids=lambda triple: "-".join(row.name for row in triple))
@settings(max_examples=15, deadline=None)
@given(**worlds)
def test_passes_of_many_triples_are_their_whole_pools_once(triple, **world):
    check_guarantees(triple, **world)


def check_resume(triple, *, steps=slice(None), **options):
    """`steps`: which of the 42 checkpoints are gone on from, each to the end."""
    trained, checkpoints, records = train(run_of(triple, **options), 43)
    assert [finished for finished, _ in checkpoints][: len(trained) - 1] == list(range(1, len(trained)))
    for finished, state in checkpoints[steps]:
        rest, _, later = train(run_of(triple, **options), 43, state=state, finished=finished)
        assert rest == trained[finished:], f"resumed after {finished} steps"
        assert later == records[len(records) - len(later) :]


@triples
@pytest.mark.parametrize("grouped", [False, True])
def test_a_run_resumed_at_any_step_goes_on_as_it_would_have(triple, grouped):
    check_resume(triple, group_by_length=grouped)


@pytest.mark.slow
@pytest.mark.parametrize("exhausted", MODES)
@pytest.mark.parametrize("triple", TRIPLES, ids=lambda triple: "-".join(row.name for row in triple))
def test_a_run_of_many_triples_resumed_at_any_step_goes_on_as_it_would_have(triple, exhausted):
    """The three modes take turns with the steps: windows are of 5, so each mode meets every place in one."""
    sizes = SIZES if exhausted == "repeat" else (160, 90, 120, 250)
    check_resume(triple, steps=slice(MODES.index(exhausted), None, 3), exhausted=exhausted, sizes=sizes)


@triples
def test_processes_plan_alike_and_take_their_slices(triple):
    """Two processes whose losses differ in the last bits; three that share each batch, its weights too."""
    plain, _, records = train(run_of(triple), 40)
    noisy, _, others = train(run_of(triple, noise=3e-13), 40)
    assert plain == noisy
    assert [record["events"] for record in records] == [record["events"] for record in others]
    curriculum = run_of(triple)
    train(curriculum, 30)
    plan = curriculum.next_window(30, 5)
    for step in range(30, 35):
        slices = [plan.slice(step, rank=rank, world=3) for rank in range(3)]
        assert sorted(len(position) for _, position in slices) == [2, 3, 3]
        pairs = sorted((int(s), int(p)) for part in slices for s, p in zip(*part, strict=True))
        assert pairs == sorted((int(s), int(p)) for s, p in zip(*plan.batch(step), strict=True))


@rows
def test_every_pacing_but_none_changes_the_pools_and_says_so(make):
    _, _, records = train(run_of((make, SAMPLERS[0], SCHEDULES[0])), 120)
    sizes = [record["pools"]["s2"] for record in records]
    assert max(sizes) == 60 or make.name != "none-0"
    assert (len(set(sizes)) > 1) == (make.name != "none-0")
    said = [event for record in records for event in record["events"] if event.startswith("s2: pool ")]
    changes = [f"s2: pool {old} -> {new} of 60, " for old, new in zip([60, *sizes], sizes, strict=False) if old != new]
    assert len(said) == len(changes)
    assert all(event.startswith(change) for event, change in zip(said, changes, strict=True))


@rows
def test_weights_are_one_but_of_the_linear_ones(make):
    curriculum = run_of((make, SAMPLERS[0], SCHEDULES[0]))
    found = []
    while curriculum.step < 60:
        train(curriculum, curriculum.step + 5)
        plan = curriculum.next_window(curriculum.step, 5)
        assert plan.weight is None or plan.weight.shape == plan.position.shape
        found += [] if plan.weight is None else [plan.weight]
    assert bool(found) == make.name.startswith("self_paced_linear")
    if found:
        weights = np.concatenate(found)
        assert 0 <= weights.min() < weights.max() <= 1


@rows
def test_a_choice_is_pure_and_its_state_is_json(make):
    setting = Setting(streams=streams(SIZES), tasks=TASKS, steps_per_epoch=7)
    pacing, other = (make(()).build(setting)._pacing for _ in range(2))
    values = streams(SIZES)[3].difficulty
    pacing.begin("s3", values)
    state = pacing.state_dict()
    assert json.loads(json.dumps(state)) == state
    other.load_state_dict(json.loads(json.dumps(state)))
    for number, step in ((0, 0), (1, 9), (5, 22)):
        choices = [p.choose(Ranking(values, key=5), stream="s3", number=number, step=step) for p in (pacing, pacing, other)]
        mask, until = choices[0]
        assert mask is None or (mask.dtype == bool and mask.any())
        assert until is None or until > number
        assert all(np.array_equal(m, mask) and u == until for m, u in choices)
        if until is not None:
            same = pacing.choose(Ranking(values, key=5), stream="s3", number=until - 1, step=step)
            assert np.array_equal(same.mask, mask)
            assert same.until == until
        assert pacing.state_dict() == state


def test_the_checks_catch_what_they_are_for():
    half = [(0, inf, np.arange(10) < 5)]
    with pytest.raises(AssertionError, match="repeated"):
        Walk(10).draw(np.array([1, 1]), half)
    with pytest.raises(AssertionError, match="outside"):
        Walk(10).draw(np.array([1, 7]), half)
    with pytest.raises(AssertionError, match=r"left out"):
        Walk(10).draw(np.array([0, 1, 2, 3, 9]), half)
