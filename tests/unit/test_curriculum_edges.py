"""Messages of the curriculum, its record, its tally, and what length grouping buys."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from pydantic import ValidationError

from mmtrain.curriculum.apportion import to_units
from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.plan import Planner
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers.dynamic_difficulty import DynamicDifficultyConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.curriculum.weighting.fixed import FixedConfig
from mmtrain.errors import CheckpointError, ConfigError


def build(sizes=(40, 90), lengths=None, batch_size=8, **options):
    streams = [StreamSpec(name=f"s{k}", size=size, lengths=lengths) for k, size in enumerate(sizes)]
    return CurriculumConfig(**options).build(streams=streams, tasks=("funny",), batch_size=batch_size, seed=1)


@pytest.mark.parametrize("exhausted", ["repeat", "drop"])
def test_without_pacing_memory_and_state_do_not_grow_with_the_streams(exhausted):
    def train(size):
        curriculum = build(sizes=(size, size), lengths=lambda at: at % 53, exhausted=exhausted)
        tracemalloc.start()
        for _ in range(3):
            plan = curriculum.next_window(curriculum.step, 50)
            curriculum.finish_window(WindowReport(step=plan.stop_step, losses={}, counts={}))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert curriculum.arrays() == {}
        assert not curriculum.listens
        return peak, len(json.dumps(curriculum.state_dict()))

    train(1000)  # imports and caches
    (small, short), (large, long) = train(1000), train(10**9)
    assert large <= small + 50_000
    assert long <= short + 50  # more digits


def test_fixed_weights():
    setting = Setting(streams=[StreamSpec(name="s", size=1)], tasks=("gory", "funny"))
    assert FixedConfig(weights={"gory": 0.5}).build(setting).weights(3, ("gory", "funny")) == {"gory": 0.5, "funny": 1.0}
    with pytest.raises(ConfigError, match="unknown task 'gori'; did you mean 'gory'"):
        FixedConfig(weights={"gori": 0.5}).build(setting)
    with pytest.raises(ConfigError, match="all 0"):
        FixedConfig(weights={"gory": 0.0, "funny": 0.0}).build(setting)
    with pytest.raises(ValidationError):
        FixedConfig(weights={"gory": -1})
    assert build(weighting={"name": "fixed", "weights": {"funny": 2}}).weights(0) == {"funny": 2.0}


def test_floors_that_cannot_be_kept():
    streams = [StreamSpec(name=f"s{k}", size=1) for k in range(4)]
    with pytest.raises(ConfigError, match=r"floor 0.3 for each of 4 streams makes 1.2, more than 1. Write floor: 0.25"):
        DynamicDifficultyConfig(floor=0.3).build(Setting(streams=streams))
    assert sum(DynamicDifficultyConfig(floor=0.25).build(Setting(streams=streams)).decide(0)(0, ("s0", "s1")).values()) == 1


def test_a_chance_loss_of_zero():
    streams = [StreamSpec(name="clips", size=1, chance={"funny": 0.0})]
    with pytest.raises(ConfigError, match=r"task 'funny' of stream 'clips' with loss 0 .* Write reference: initial"):
        DynamicDifficultyConfig(reference="chance").build(Setting(streams=streams))


def test_a_resume_with_other_streams_is_refused_in_words():
    state = build().state_dict()
    with pytest.raises(CheckpointError, match="cannot resume: stream 's1' had 90 samples, now has 91"):
        build(sizes=(40, 91)).load_state_dict(state, {})
    with pytest.raises(CheckpointError, match="the checkpoint's streams are s0, s1; the config's are s0"):
        build(sizes=(40,)).load_state_dict(state, {})


def test_misuse_by_a_loop_is_refused():
    curriculum = build(window=5)
    with pytest.raises(ValueError, match="none is planned"):
        curriculum.finish_window(WindowReport(step=5, losses={}, counts={}))
    with pytest.raises(ValueError, match=r"starts at step 0 and has 1 .. 5 steps, not 5 and 5"):
        curriculum.next_window(5, 5)
    plan = curriculum.next_window(0, 5)
    with pytest.raises(IndexError, match=r"step 5 is not in the window 0 .. 4"):
        plan.batch(5)
    with pytest.raises(ValueError, match="it ends at step 5"):
        curriculum.finish_window(WindowReport(step=4, losses={}, counts={}))
    with pytest.raises(ValueError, match="not on the window border 0"):
        curriculum.observe_evaluation(EvalReport(step=5, metrics={}))
    with pytest.raises(ValueError, match="read-only"):
        plan.position[0, 0] = 1
    with pytest.raises(ValueError, match="sum to 1"):
        to_units((0.5, 0.6))
    with pytest.raises(ValueError, match="at least 0"):
        to_units((1.5, -0.5))
    with pytest.raises(ValueError, match="at least 1"):
        StreamSpec(name="empty", size=0)
    with pytest.raises(ValueError, match="named streams"):
        Planner(streams=[StreamSpec(name="a", size=1)] * 2, batch_size=1, seed=0)


def test_the_record_of_a_window():
    curriculum = build(sizes=(16, 64), window=5, sampler={"name": "proportional"}, batch_size=10)
    curriculum.next_window(0, 4)
    curriculum.finish_window(WindowReport(step=4, losses={"s0": {"funny": 0.51234567}}, counts={"s0": 8, "s1": 32}))
    assert json.loads(json.dumps(curriculum.record())) == {
        "step": 4,
        "steps": 4,
        "shares": {"s0": 0.2, "s1": 0.8},
        "counts": {"s0": 8, "s1": 32},
        "passes": {"s0": 0.5, "s1": 0.5},
        "pools": {"s0": 16, "s1": 64},
        "losses": {"s0": {"funny": 0.512346}},
        "active": {"funny": 4},
        "weights": {"funny": 1.0},
        "conflicts": None,
        "events": [],
    }
    assert curriculum.step == 4


def test_what_decides_on_samples_knows_nothing_of_torch():
    modules = "mmtrain.curriculum.samplers, mmtrain.curriculum.schedules, mmtrain.curriculum.plan"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_curriculum_starts_without_what_few_weightings_need():
    heavy = "{'transformers', 'torchjd', 'cvxpy', 'quadprog'} & set(sys.modules)"
    code = f"import sys, mmtrain.curriculum.curriculum; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def padding_share(curriculum, measure, windows=20):
    """Of all rows of padded batches, the share that is padding; and the mean length of each batch, in time."""
    real = padded = 0
    means = []
    for _ in range(windows):
        plan = curriculum.next_window(curriculum.step, curriculum.window)
        lengths = measure(plan.position)
        real, padded = real + lengths.sum(), padded + (lengths.max(axis=1) * lengths.shape[1]).sum()
        means += lengths.mean(axis=1).tolist()
        curriculum.finish_window(WindowReport(step=plan.stop_step, losses={}, counts={}))
    return 1 - real / padded, np.array(means)


def test_grouping_saves_padding_and_lengths_stay_random_in_time():
    def measure(positions):
        return 1 + positions * 2654435761 % 97

    options = {"sizes": (5000, 100_000, 10**9), "lengths": measure, "batch_size": 32}
    plain, _ = padding_share(build(group_by_length=False, **options), measure)
    grouped, means = padding_share(build(group_by_length=True, **options), measure)
    assert plain > 0.4
    assert grouped < 0.1
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 5 / np.sqrt(len(means))
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 5 / np.sqrt(len(means))


def test_grouping_changes_neither_counts_nor_the_samples_of_a_window():
    curricula = [build(sizes=(30, 900), lengths=lambda at: at % 10, group_by_length=grouped) for grouped in (False, True)]
    plain, grouped = (curriculum.next_window(0, 50) for curriculum in curricula)
    assert (plain.counts == grouped.counts).all()
    assert not (plain.position == grouped.position).all()
    for k in range(2):
        assert sorted(plain.position[plain.stream == k]) == sorted(grouped.position[grouped.stream == k])


def test_slices_of_a_grouped_batch_have_like_loads():
    def measure(positions):
        return positions % 100

    curriculum = build(sizes=(1000, 1000), lengths=measure, batch_size=64)
    plan = curriculum.next_window(0, 10)
    for step in range(10):
        loads = [measure(plan.slice(step, rank=rank, world=4)[1]) for rank in range(4)]
        spread = max(map(max, loads)) - min(map(min, loads))
        sums = [int(load.sum()) for load in loads]
        assert max(sums) - min(sums) <= spread  # interleaved slices of a sorted batch


@pytest.mark.parametrize(
    ("exhausted", "expected"),
    [
        ("repeat", [[], [], []]),
        ("drop", [[], ["a: all samples of its first pool are drawn; its share goes to the others"], []]),
        (
            "stop",
            [[], ["a: all samples of its first pool are drawn", "step 3: the stage ends, no further batch can be filled"]],
        ),
    ],
)
def test_a_stream_that_is_used_up_is_said(exhausted, expected):
    """Two of four samples a batch are of `a`, which has six: it is empty after three steps of windows of two."""
    config = CurriculumConfig(window=2, exhausted=exhausted, group_by_length=False)
    streams = [StreamSpec(name="a", size=6), StreamSpec(name="b", size=40)]
    curriculum = config.build(streams=streams, tasks=("funny",), batch_size=4, seed=0)
    events = []
    for first in (0, 2, 4):
        plan = curriculum.next_window(first, 2)
        curriculum.finish_window(WindowReport(plan.stop_step, {}, {}))
        events.append(curriculum.record()["events"])
        if plan.ended:
            break
    assert events == expected
