"""Shares, apportionments and epochs worked out by hand."""

from fractions import Fraction

import numpy as np
import pytest

from mmtrain.curriculum.apportion import UNIT, apportion, to_units
from mmtrain.curriculum.decision import Decision
from mmtrain.curriculum.plan import Planner
from mmtrain.curriculum.reports import WindowReport
from mmtrain.curriculum.samplers.dynamic_difficulty import DynamicDifficultyConfig
from mmtrain.curriculum.samplers.proportional import ProportionalConfig
from mmtrain.curriculum.samplers.round_robin import RoundRobinConfig
from mmtrain.curriculum.samplers.temperature import TemperatureConfig
from mmtrain.curriculum.samplers.uniform import UniformConfig, uniform_shares
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec, steps_per_epoch


def specs(**sizes):
    return [StreamSpec(name=name, size=size) for name, size in sizes.items()]


def setting(**sizes):
    return Setting(streams=specs(**sizes))


def report(step=50, **losses):
    """Losses by stream: a number is the loss of the task "x"."""
    by_task = {name: loss if isinstance(loss, dict) else {"x": loss} for name, loss in losses.items()}
    return WindowReport(step=step, losses=by_task, counts={})


def shares(sampler, *active, step=0):
    return sampler.decide(step)(step, active)


def near(**fractions):
    return pytest.approx({name: float(Fraction(value)) for name, value in fractions.items()}, rel=1e-12)


def test_uniform_and_proportional():
    streams = setting(a=10, b=30, c=60)
    assert shares(UniformConfig().build(streams), "a", "c") == {"a": 0.5, "c": 0.5}
    sampler = ProportionalConfig().build(streams)
    assert shares(sampler, "a", "b", "c") == near(a="1/10", b="3/10", c="6/10")
    assert shares(sampler, "a", "b") == near(a="1/4", b="3/4")


def test_temperature():
    streams = setting(a=100, b=10_000)
    assert shares(TemperatureConfig(temperature=1).build(streams), "a", "b") == near(a="1/101", b="100/101")
    assert shares(TemperatureConfig(temperature=2).build(streams), "a", "b") == near(a="1/11", b="10/11")  # 10 : 100
    capped = TemperatureConfig(temperature=2, cap=2500).build(streams)
    assert shares(capped, "a", "b") == near(a="1/6", b="5/6")  # 10 : 50


def test_round_robin():
    sampler = RoundRobinConfig().build(setting(a=1, b=1, c=1))
    taken = [max(given, key=given.get) for given in (shares(sampler, "a", "b", "c", step=step) for step in range(5))]
    assert taken == ["a", "b", "c", "a", "b"]
    assert shares(sampler, "a", "c", step=3) == {"a": 0.0, "c": 1.0}


def test_dynamic_difficulty():
    sampler = DynamicDifficultyConfig(floor=0.1).build(setting(a=10, b=30))
    assert shares(sampler, "a", "b") == {"a": 0.5, "b": 0.5}
    sampler.observe(report(a=1, b=3))
    assert shares(sampler, "a", "b") == near(a="3/10", b="7/10")  # 1/10 + 8/10 * 1/4, 1/10 + 8/10 * 3/4
    assert shares(sampler, "b") == {"b": 1.0}  # K = 1: 1/10 + 9/10
    sampler.observe(report(a=9))  # b was not drawn and keeps its 3
    assert shares(sampler, "a", "b") == near(a="7/10", b="3/10")


def test_dynamic_difficulty_temperature():
    sharp = DynamicDifficultyConfig(floor=0.05, temperature=0.5).build(setting(a=1, b=1, c=1))
    sharp.observe(report(a=1, b=2, c=3))  # squares: 1, 4, 9 of 14; 1 - 3/20 = 17/20
    twentieth, rest = Fraction(1, 20), Fraction(17, 20)
    expected = {name: twentieth + rest * Fraction(n, 14) for name, n in {"a": 1, "b": 4, "c": 9}.items()}
    assert shares(sharp, "a", "b", "c") == near(**expected)
    flat = DynamicDifficultyConfig(floor=0, temperature=2).build(setting(a=1, b=1))
    flat.observe(report(a=4, b=9))
    assert shares(flat, "a", "b") == near(a="2/5", b="3/5")


def test_dynamic_difficulty_smoothing():
    sampler = DynamicDifficultyConfig(floor=0, smoothing=0.75).build(setting(a=1, b=1))
    sampler.observe(report(a=4, b=2))
    sampler.observe(report(a=8, b=2))  # a: 3/4 * 4 + 1/4 * 8 = 5
    assert shares(sampler, "a", "b") == near(a="5/7", b="2/7")


def test_dynamic_difficulty_references_make_tasks_comparable():
    streams = [StreamSpec(name="a", size=1, chance={"x": 0.5, "y": 4.0}), StreamSpec(name="b", size=1, chance={"y": 4.0})]
    sampler = DynamicDifficultyConfig(floor=0, reference="chance").build(Setting(streams=streams))
    sampler.observe(report(a={"x": 0.5, "y": 2.0}, b={"y": 3.0}))  # a: (1 + 1/2) / 2, b: 3/4
    assert shares(sampler, "a", "b") == near(a="1/2", b="1/2")
    sampler.observe(report(a={"x": 0.25}))  # y keeps its 2: a: (1/2 + 1/2) / 2
    assert shares(sampler, "a", "b") == near(a="2/5", b="3/5")
    learned = DynamicDifficultyConfig(floor=0, reference="initial").build(setting(a=1, b=1))
    learned.observe(report(a=10, b=0.1))
    assert shares(learned, "a", "b") == near(a="1/2", b="1/2")
    learned.observe(report(a=5, b=0.025))
    assert shares(learned, "a", "b") == near(a="2/3", b="1/3")


def test_dynamic_difficulty_start_unseen_streams_and_perfect_ones():
    sampler = DynamicDifficultyConfig(floor=0, start="proportional").build(setting(a=1, b=2, c=5))
    assert shares(sampler, "a", "b", "c") == near(a="1/8", b="2/8", c="5/8")
    sampler.observe(report(a=1, b=3))  # c counts as hard as the mean of the others, 2
    assert shares(sampler, "a", "b", "c") == near(a="1/6", b="3/6", c="2/6")
    sampler.observe(report(a=0, b=0, c=0))
    assert shares(sampler, "a", "b", "c") == near(a="1/3", b="1/3", c="1/3")


def test_reported_losses_have_six_significant_digits():
    assert report(a=0.12345678).losses == {"a": {"x": 0.123457}}
    assert report(a=1234567.8).losses == {"a": {"x": 1234570.0}}


def test_shares_become_units_that_sum_exactly():
    assert to_units((0.5, 0.25, 0.25)) == (UNIT // 2, UNIT // 4, UNIT // 4)
    third = UNIT // 3  # 2^48 = 3 * third + 1
    assert to_units((1 / 3, 1 / 3, 1 / 3)) == (third + 1, third, third)
    assert to_units((1.0, 0.0)) == (UNIT, 0)
    assert sum(to_units((1e-12, 1 - 1e-12, 0.0))) == UNIT


def test_largest_remainder_with_carry():
    half, quarter = UNIT // 2, UNIT // 4
    counts, carries = apportion((half, quarter, quarter), (0, 0, 0), 2)  # credits 1, 1/2, 1/2
    assert (counts, carries) == ([1, 1, 0], [0, -half, half])
    counts, carries = apportion((half, quarter, quarter), carries, 2)  # credits 1, 0, 1
    assert (counts, carries) == ([1, 0, 1], [0, 0, 0])


def test_carries_of_inactive_streams_are_frozen_and_too_much_is_taken_back():
    half, quarter = UNIT // 2, UNIT // 4
    assert apportion((UNIT, 0), (-half, half), 3) == ([3, 0], [-half, half])
    counts, carries = apportion((half, quarter, quarter), (3 * half, -3 * quarter, -3 * quarter), 1)  # credits 2, -1/2, -1/2
    assert (counts, carries) == ([1, 0, 0], [UNIT, -half, -half])


def counts_of(mode, num_steps=9, **sizes):
    planner = Planner(streams=specs(**sizes), batch_size=4, seed=0, exhausted=mode)
    rule = Decision(shares=uniform_shares, active=lambda _: planner.names)
    plan, state = planner.plan(planner.start(), rule, first_step=0, num_steps=num_steps)
    return plan, state, plan.counts.tolist()


def test_a_stream_that_ends_repeats_leaves_its_share_or_stops():
    plan, state, counts = counts_of("repeat", num_steps=3, a=3, b=100)
    assert (counts, plan.ended) == ([[2, 2]] * 3, False)
    assert [(turn.number, turn.offset) for turn in state.turns] == [(2, 0), (0, 6)]
    plan, state, counts = counts_of("drop", a=3, b=10)
    assert (counts, plan.ended) == ([[2, 2], [1, 3], [0, 4]], True)  # 1 left of b's 10: no fourth batch
    plan, state, counts = counts_of("stop", a=3, b=100)
    assert (counts, plan.ended) == ([[2, 2]], True)
    plan, _, counts = counts_of("drop", num_steps=2, a=3, b=5)
    assert (counts, plan.ended) == ([[2, 2], [1, 3]], False)  # the last sample of both fills the batch


def test_steps_per_epoch():
    assert steps_per_epoch(specs(a=10, b=23), 32) == 2
    assert steps_per_epoch(specs(a=10, b=22), 32) == 1


def test_length_grouping_by_hand():
    """Two batches of four from one stream of 8, lengths 0 .. 7: the short half and the long half, in either order."""
    stream = StreamSpec(name="a", size=8, lengths=lambda at: at)
    planner = Planner(streams=[stream], batch_size=4, seed=0, group_by_length=True)
    rule = Decision(shares=uniform_shares, active=lambda _: planner.names)
    state, orders = planner.start(), set()
    for window in range(20):
        plan, state = planner.plan(state, rule, first_step=2 * window, num_steps=2)
        halves = sorted(plan.position.tolist())
        assert halves == [[0, 1, 2, 3], [4, 5, 6, 7]]
        orders.add(int(np.argmin(plan.position[:, 0])))
    assert orders == {0, 1}  # random in time
