"""Shares that go by what is written and by the step: numbers by hand, and the messages of wrong ones."""

from itertools import pairwise

import pytest

from mmtrain.curriculum.samplers.annealed import AnnealedConfig
from mmtrain.curriculum.samplers.fixed import FixedSharesConfig
from mmtrain.curriculum.samplers.random_stream import RandomStreamConfig
from mmtrain.curriculum.samplers.scheduled import ScheduledConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.errors import ConfigError


def setting(*, seed=0, steps_per_epoch=10, **sizes):
    streams = [StreamSpec(name=name, size=size) for name, size in sizes.items()]
    return Setting(streams=streams, seed=seed, steps_per_epoch=steps_per_epoch)


def near(**shares):
    return pytest.approx(shares, rel=1e-12)


def test_fixed_shares_are_scaled():
    sampler = FixedSharesConfig(shares={"a": 3, "b": 1, "c": 4}).build(setting(a=1, b=1, c=1))
    assert sampler.decide(0)(7, ("a", "b", "c")) == near(a=0.375, b=0.125, c=0.5)
    assert sampler.decide(0)(7, ("a", "b")) == near(a=0.75, b=0.25)


def test_fixed_shares_name_every_stream_and_no_other():
    with pytest.raises(ConfigError, match=r"sampler fixed: shares: unknown stream 'clip'; did you mean 'clips'\? The stage"):
        FixedSharesConfig(shares={"clip": 1}).build(setting(clips=1, tweets=1))
    with pytest.raises(ConfigError, match=r"nothing is written for stream tweets; name every stream"):
        FixedSharesConfig(shares={"clips": 1}).build(setting(clips=1, tweets=1))
    with pytest.raises(ValueError, match="greater than 0"):
        FixedSharesConfig(shares={"clips": 0})


def points(*pairs):
    return [{"at": at, "shares": shares} for at, shares in pairs]


def test_scheduled_shares_lie_on_straight_lines():
    """From a : b = 4 : 0 at step 10 to 1 : 3 at step 30: b gains 3/4 in 20 steps."""
    written = points((1, {"a": 4, "b": 0}), (3, {"a": 1, "b": 3}))
    shares = ScheduledConfig(points=written).build(setting(a=1, b=1)).decide(0)  # an epoch has 10 steps
    names = ("a", "b")
    assert shares(0, names) == shares(10, names) == near(a=1, b=0)
    assert shares(14, names) == near(a=0.85, b=0.15)
    assert shares(20, names) == near(a=0.625, b=0.375)
    assert shares(30, names) == shares(1000, names) == near(a=0.25, b=0.75)
    assert shares(5, ("b",)) == near(b=1)  # alone, though its share stands at 0
    in_steps = ScheduledConfig(points=written, unit="steps").build(setting(a=1, b=1)).decide(0)
    assert in_steps(2, names) == near(a=0.625, b=0.375)


def test_scheduled_points_must_be_in_order():
    with pytest.raises(ConfigError, match=r"step 10 follows step 10 \(an epoch has 10 steps\). Sort them by `at`"):
        ScheduledConfig(points=points((1, {"a": 1}), (1.01, {"a": 1}))).build(setting(a=1))
    with pytest.raises(ConfigError, match="points is empty; write one at least"):
        ScheduledConfig(points=[]).build(setting(a=1))
    with pytest.raises(ConfigError, match=r"points.0.shares: all are 0; give one stream at least"):
        ScheduledConfig(points=points((0, {"a": 0}))).build(setting(a=1))
    with pytest.raises(ConfigError, match=r"points.0.shares: nothing is written for stream b"):
        ScheduledConfig(points=points((0, {"a": 1}))).build(setting(a=1, b=1))


def test_annealed_from_proportional_to_uniform():
    """Sizes 1 : 16. Over 20 steps the exponent falls from 1 to 0: 16^(3/4) = 8, 16^(1/2) = 4."""
    shares = AnnealedConfig(over=2).build(setting(a=1, b=16)).decide(0)
    names = ("a", "b")
    assert shares(0, names) == near(a=1 / 17, b=16 / 17)
    assert shares(5, names) == near(a=1 / 9, b=8 / 9)
    assert shares(10, names) == near(a=1 / 5, b=4 / 5)
    assert shares(20, names) == shares(900, names) == near(a=0.5, b=0.5)
    to_two = AnnealedConfig(end=2, over=8, unit="steps").build(setting(a=1, b=16)).decide(0)
    assert to_two(8, names) == near(a=1 / 5, b=4 / 5)
    assert to_two(4, names) == near(a=1 / 9, b=8 / 9)


def drawn(sampler, steps, *names):
    rule = sampler.decide(0)
    given = [rule(step, names) for step in range(steps)]
    assert all(sorted(shares.values()) == [0.0] * (len(names) - 1) + [1.0] for shares in given)
    return [max(shares, key=shares.get) for shares in given]


def test_a_random_stream_is_drawn_by_its_weight():
    even = drawn(RandomStreamConfig().build(setting(a=1, b=9)), 4000, "a", "b")
    assert abs(even.count("a") - 2000) < 5 * 31.7  # five standard deviations, sqrt(4000 / 4)
    by_size = drawn(RandomStreamConfig(temperature=1).build(setting(a=1, b=9)), 4000, "a", "b")
    assert abs(by_size.count("a") - 400) < 5 * 19  # sqrt(4000 * 0.1 * 0.9)
    by_root = drawn(RandomStreamConfig(temperature=2).build(setting(a=1, b=9, c=5)), 4000, "a", "b")
    assert abs(by_root.count("a") - 1000) < 5 * 27.4
    changes = sum(x != y for x, y in pairwise(even))
    assert abs(changes - 2000) < 5 * 31.7  # each draw independent of the one before


def test_a_random_stream_goes_by_seed_and_step_alone():
    one, other = (RandomStreamConfig().build(setting(seed=seed, a=1, b=1)) for seed in (1, 2))
    names = ("a", "b")
    first = drawn(one, 100, *names)
    assert drawn(RandomStreamConfig().build(setting(seed=1, a=1, b=1)), 100, *names) == first
    assert drawn(other, 100, *names) != first
    rule = one.decide(95)
    backwards = [max(rule(step, names), key=rule(step, names).get) for step in reversed(range(100))]
    assert backwards[::-1] == first
    assert max(one.uniform(step) for step in range(1000)) < 1
