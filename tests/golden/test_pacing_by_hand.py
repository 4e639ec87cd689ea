"""Pacings by hand: competences, buckets, thresholds, weights, quantiles, ties, warm-up and probes."""

from math import sqrt

import numpy as np
import pytest
from pydantic import ValidationError

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.pacing.anti import AntiConfig
from mmtrain.curriculum.pacing.baby_steps import BabySteps
from mmtrain.curriculum.pacing.competence import CompetenceConfig
from mmtrain.curriculum.pacing.growth import Growth, root
from mmtrain.curriculum.pacing.loss_quantile import LossQuantile, LossQuantileConfig
from mmtrain.curriculum.pacing.ranking import Ranking
from mmtrain.curriculum.pacing.self_paced import SelfPaced
from mmtrain.curriculum.pacing.self_paced_linear import SelfPacedLinear
from mmtrain.curriculum.pool import Pool
from mmtrain.curriculum.reports import WindowReport, round_all_significant, round_significant
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.curriculum.turn import Chosen, Turn

TEXT = {"name": "text_length"}


def ranking(*values, key=1):
    return Ranking(np.array(values, np.float32), key=key)


def chosen(mask):
    return np.flatnonzero(mask).tolist()


def pool_of(pacing, order, number, step=0):
    """The samples that a pacing chooses for a pass."""
    mask = pacing.choose(order, stream="s", number=number, step=step).mask
    return list(range(len(order))) if mask is None else chosen(mask)


def test_the_root_of_any_power():
    assert root(0.5, start=0, power=3) == 0.5 ** (1 / 3)
    assert root(0.5, start=0, power=1) == 0.5
    assert root(0.25, start=0, power=2) == 0.5
    assert root(0.0, start=0.01, power=2) == pytest.approx(0.01)
    assert root(0.5, start=0.1, power=2) == pytest.approx(sqrt(0.5 * 0.99 + 0.01))  # sqrt(t (1 - c0^2) / T + c0^2)
    assert root(0.5, start=0.2, power=1) == pytest.approx(0.6)
    assert [root(progress, start=0.3, power=2) for progress in (1.0, 1.5)] == [1.0, 1.0]


def test_competence_counts_samples_by_the_step():
    growth = Growth(start=0.01, num_steps=100, power=1)
    assert [growth.count(200, step) for step in (0, 50, 99, 100, 10**6)] == [2, 101, 198, 200, 200]
    assert growth.count(3, 0) == 1  # 0.03 of a sample, at least one
    setting = Setting(streams=[StreamSpec(name="s", size=5, difficulty=np.arange(5, dtype=np.float32))], steps_per_epoch=20)
    options = {"difficulty": TEXT, "start": 0.2, "over": 2, "power": 1}  # 2 epochs of 20 steps
    pools = {name: config(**options).build(setting) for name, config in (("easy", CompetenceConfig), ("hard", AntiConfig))}
    easy = [pools["easy"].pool("s", 0, step=step).pool.mask(5).tolist() for step in (0, 20)]
    assert [chosen(mask) for mask in easy] == [[0], [0, 1, 2]]  # 0.2 and 0.6 of five
    assert chosen(pools["hard"].pool("s", 0, step=20).pool.mask(5)) == [2, 3, 4]
    assert pools["easy"].pool("s", 0, step=40) == pools["hard"].pool("s", 0, step=40) == Chosen(None, None)
    assert pools["easy"].words("s", 0, step=20) == "competence 0.6"


def test_baby_steps_open_a_bucket_after_each_two_passes():
    pacing, order = BabySteps(buckets=3, passes=2), ranking(5, 1, 4, 2, 3, 0)
    pools = [pool_of(pacing, order, number) for number in range(6)]
    assert pools == [[1, 5], [1, 5], [1, 3, 4, 5], [1, 3, 4, 5], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    until = [pacing.choose(order, stream="s", number=number, step=0).until for number in range(6)]
    assert until == [2, 2, 4, 4, None, None]
    assert pacing.words(stream="s", number=3, step=0) == "2 of 3 buckets"
    assert pool_of(BabySteps(buckets=9, passes=1), ranking(3, 1, 2), 0) == [1]


def test_the_self_paced_threshold_starts_at_a_quantile_and_grows_with_every_pass():
    values = np.array([0.1, 0.4, 0.2, 0.8, 0.3], np.float32)
    pacing = SelfPaced(start=0.5, growth=2.0)
    pacing.begin("s", values)
    assert [pacing.threshold("s", number) for number in range(3)] == pytest.approx([0.3, 0.6, 1.2])
    pools = [pool_of(pacing, Ranking(values, key=1), number) for number in range(3)]
    assert pools == [[0, 2], [0, 1, 2, 4], [0, 1, 2, 3, 4]]  # strictly below
    assert pacing.weights(values, stream="s", numbers=np.zeros(5, int)) is None
    risen = Ranking(values + 5, key=1)
    assert pool_of(pacing, risen, 0) == [0]  # the easiest, where none is below
    assert pacing.threshold("s", 10**9) == np.finfo(np.float32).max  # without an overflow
    quarter = SelfPaced(start=0.25, growth=2.0)
    quarter.begin("s", values)
    assert quarter.threshold("s", 0) == pytest.approx(0.2)


def test_a_threshold_cannot_stay_at_zero():
    pacing = SelfPaced(start=0.5, growth=2.0)
    pacing.begin("s", np.array([0, 0, 0, 0.5, 0.25], np.float32))
    assert pacing.threshold("s", 0) == 0.25
    pacing.begin("s", np.zeros(3, np.float32))
    assert pool_of(pacing, ranking(0, 0, 0), 0) == [0, 1, 2]


def test_linear_weights_fall_with_the_loss():
    pacing = SelfPacedLinear(start=0.5, growth=2.0)
    pacing.begin("s", np.array([0.5, 1.0, 4.0], np.float32))
    losses = np.array([0.0, 0.25, 0.5, 1.0, 3.0], np.float32)
    first, second = [1.0, 0.75, 0.5, 0.0, 0.0], [1.0, 0.875, 0.75, 0.5, 0.0]  # lambda 1, lambda 2
    assert pacing.weights(losses, stream="s", numbers=np.zeros(5, int)).tolist() == first
    assert pacing.weights(losses, stream="s", numbers=np.ones(5, int)).tolist() == second
    assert pacing.weights(losses, stream="s", numbers=np.array([0, 1, 0, 1, 0])).tolist() == [1.0, 0.875, 0.5, 0.5, 0.0]


def test_loss_quantiles_drop_whole_samples():
    order = ranking(0, 9, 1, 8, 2, 7, 3, 6, 4, 5)
    part = lambda easy, hard: pool_of(LossQuantile(drop_easiest=easy, drop_hardest=hard), order, 0)  # noqa: E731
    assert part(0.3, 0.0) == [1, 3, 5, 6, 7, 8, 9]
    assert part(0.0, 0.25) == [0, 2, 4, 5, 6, 7, 8, 9]  # floor(2.5)
    assert part(0.25, 0.7) == [4]
    even = pool_of(LossQuantile(drop_easiest=0.07, drop_hardest=0.29), ranking(*range(100)), 0)
    assert even == list(range(7, 71))  # 0.07 * 100 is 7.000000000000001, 0.29 * 100 is 28.999999999999996
    with pytest.raises(ValidationError, match=r"drop_easiest 0.6 and drop_hardest 0.5 leave nothing; sum < 1"):
        LossQuantileConfig(drop_easiest=0.6, drop_hardest=0.5)


def test_equally_hard_samples_are_ordered_by_a_key_and_pools_are_nested():
    values = np.repeat([3.0, 1.0, 2.0], 40).astype(np.float32)
    order, other = Ranking(values, key=1), Ranking(values, key=2)
    easy = [order.easiest(count) for count in range(121)]
    hard = [order.hardest(count) for count in range(121)]
    for count in range(121):
        assert easy[count].sum() == hard[count].sum() == count
        assert (easy[count] == ~hard[120 - count]).all()
        assert (easy[max(count - 1, 0)] <= easy[count]).all()
    assert chosen(easy[40]) == list(range(40, 80))
    assert chosen(easy[60])[:40] == list(range(40, 80))
    tied = chosen(easy[60])[40:]
    assert tied != list(range(80, 100))
    assert tied != chosen(other.easiest(60))[40:]


def test_vectors_are_rounded_as_numbers_are():
    values = np.array([0, 1, -1, 123456.7, 0.1234567, 9.999999, 1e-30, 3.3e38, np.inf, np.nan], np.float32)
    expected = np.array([round_significant(float(value)) for value in values], np.float32)
    assert np.array_equal(round_all_significant(values), expected, equal_nan=True)
    assert round_all_significant(np.array([0.1234564, 0.12345649])).tolist() == [np.float32(0.123456)] * 2


def curriculum_of(pacing, size=4, batch_size=2, window=2, difficulty=None):
    streams = [StreamSpec(name="s", size=size, difficulty=difficulty)]
    config = CurriculumConfig(pacing=pacing, window=window, group_by_length=False)
    return config.build(streams=streams, tasks=("t",), batch_size=batch_size, seed=0)


def advance(curriculum, losses):
    """Train a window in which sample i has losses[i]; returns the plan."""
    plan = curriculum.next_window(curriculum.step, curriculum.window)
    own = np.asarray(losses, np.float32)[plan.position.ravel()]
    report = WindowReport(plan.stop_step, {"s": {"t": 1.0}}, {"s": plan.position.size}, sample_losses=own)
    curriculum.finish_window(report)
    return plan


def test_a_stream_is_whole_until_each_sample_has_a_loss():
    """Six samples, two steps of 2 a window: the losses are all known after the second window, in the middle of pass 1."""
    curriculum = curriculum_of({"name": "self_paced", "start": 0.5, "growth": 1.1}, size=6)
    losses = [1, 2, 3, 4, 5, 6]
    drawn = [advance(curriculum, losses).position.ravel().tolist() for _ in range(3)]
    assert sorted(drawn[0] + drawn[1][:2]) == sorted(drawn[1][2:] + drawn[2]) == list(range(6))
    assert curriculum.record()["pools"] == {"s": 6}
    assert curriculum.state_dict()["pacing"]["begun"] == {"s": 2}
    plan = advance(curriculum, losses)
    assert set(plan.position.ravel().tolist()) == {0, 1, 2}  # below 3.5, then 3.85: a pass and a third
    assert curriculum.record()["events"] == ["s: pool 6 -> 3 of 6, losses below 3.85"]
    assert curriculum.record()["passes"]["s"] == pytest.approx(3 + 1 / 3, rel=1e-5)


def test_a_pass_keeps_its_pool_and_the_next_one_takes_the_windows():
    """Ten samples, competence 0.4 at step 0 and 0.6 at 2, windows of 6: 4 and 2 of four, then 2 of four and 4 of six."""
    pacing = {"name": "competence", "difficulty": TEXT, "start": 0.4, "over": 6, "unit": "steps", "power": 1}
    curriculum = curriculum_of(pacing, size=10, batch_size=3, difficulty=np.arange(10, dtype=np.float32))
    first = advance(curriculum, np.zeros(10)).position.ravel()
    assert sorted(first[:4]) == [0, 1, 2, 3]  # both passes that begin in the window have its pool
    assert set(first[4:]) < {0, 1, 2, 3}
    second = advance(curriculum, np.zeros(10)).position.ravel()
    assert sorted([*first[4:], *second[:2]]) == [0, 1, 2, 3]
    assert len(set(second[2:])) == 4
    assert set(second[2:]) < set(range(6))
    assert curriculum.record()["events"] == ["s: pool 4 -> 6 of 10, competence 0.6"]
    assert curriculum.record()["passes"]["s"] == pytest.approx(2 + 4 / 6, rel=1e-5)
    assert curriculum.arrays()["pool/s"].tolist() == [0b111111, 0]


def test_samples_outside_the_pool_are_asked_for_when_a_pass_ends_and_come_back():
    curriculum = curriculum_of({"name": "loss_quantile", "drop_hardest": 0.5, "probe_every": 2})
    losses = [1, 2, 3, 4]
    advance(curriculum, losses)  # the warm-up: a pass of 4
    assert curriculum.probes() == {}
    assert set(advance(curriculum, losses).position.ravel().tolist()) == {0, 1}  # two passes of two: numbers 2 and 3
    assert {name: at.tolist() for name, at in curriculum.probes().items()} == {"s": [2, 3]}
    curriculum.observe_losses({"s": np.array([0.5, 0.25000001], np.float32)})
    assert curriculum.probes() == {}
    assert curriculum.arrays()["losses/s"].tolist() == [1, 2, 0.5, 0.25]
    assert set(advance(curriculum, losses).position.ravel().tolist()) == {2, 3}
    never = curriculum_of({"name": "loss_quantile", "drop_hardest": 0.5, "probe_every": None})
    for _ in range(4):
        plan = advance(never, losses)
        assert never.probes() == {}
    assert set(plan.position.ravel().tolist()) == {0, 1}


@pytest.mark.parametrize("grouped", [False, True])
def test_each_sample_of_a_plan_has_the_weight_of_its_own_loss(grouped):
    """Losses 1 to 64, all known after eight windows of 8: lambda is 32.5, and the window lies within one pass of 32."""
    streams = [StreamSpec(name=name, size=64, lengths=lambda at: at * 37 % 11) for name in ("s", "t")]
    config = CurriculumConfig(pacing={"name": "self_paced_linear"}, window=2, group_by_length=grouped)
    curriculum = config.build(streams=streams, tasks=("t",), batch_size=8, seed=0)
    for _ in range(8):
        assert advance(curriculum, np.arange(1, 65)).weight is None
    for _ in range(2):
        plan = advance(curriculum, np.arange(1, 65))
        assert plan.position.max() < 32
        assert plan.weight == pytest.approx(1 - (plan.position + 1) / 32.5)
        assert plan.weights(plan.first_step + 1).tolist() == plan.weight[1].tolist()
    assert curriculum.next_window(curriculum.step, 2).weight.flags.writeable is False


def test_alone_in_its_pool_a_sample_weighs_one():
    """Lambda is 1.5; sample 0 rises from 1 to 8, and 1 stays at 2: it is the easiest, and has to teach something."""
    curriculum = curriculum_of({"name": "self_paced_linear", "growth": 1.01}, size=2, batch_size=1, window=1)
    for losses in ([1, 2], [1, 2], [8, 9], [8, 9]):
        plan = advance(curriculum, losses)
    assert curriculum.record()["pools"] == {"s": 1}
    assert plan.position.tolist() == [[1]]
    assert plan.weight is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((1, 2, "abc", None), (2, 0, "abc", "abc"), "def"),  # the pass under way ended with the window
        ((1, 2, "abc", None), (2, 1, "de", "abc"), "f"),  # and another began: its samples come anyway
        ((1, 2, "abc", "f"), (5, 1, "de", "ab"), "cf"),
        ((1, 0, "abc", None), (3, 0, "de", "de"), "abcf"),
        ((1, 2, "abc", None), (2, 1, None, "abc"), ""),  # all will come
        ((1, 2, "abc", None), (2, 1, "a", None), ""),  # all came
        ((2, 1, "abc", "a"), (3, 1, "de", "abc"), ""),  # not the end of a second pass
        ((2, 1, "abc", "a"), (2, 2, "abc", "a"), ""),
    ],
)
def test_what_is_stale_after_a_window(before, after, expected):
    """Six samples a to f, asked for every second pass; a turn is number, offset, pool, and the pool that ended."""

    def pool(names):
        return None if names is None else Pool.of(np.array([name in names for name in "abcdef"]))

    pacer = LossQuantileConfig(probe_every=2).build(Setting(streams=[StreamSpec(name="s", size=6)]))
    turns = [Turn(number, offset, pool(now), pool(ended)) for number, offset, now, ended in (before, after)]
    assert "".join("abcdef"[k] for k in pacer._outside(*turns, 6)) == expected


def test_each_pass_of_a_window_has_the_pool_of_its_number():
    """Twelve samples in three buckets, 22 draws a window: passes of 4 and 8 and 10 of 12; then 2, 12 and 8."""
    pacing = {"name": "baby_steps", "difficulty": TEXT, "buckets": 3}
    curriculum = curriculum_of(pacing, size=12, batch_size=11, difficulty=np.arange(12, dtype=np.float32))
    first = advance(curriculum, np.zeros(12)).position.ravel().tolist()
    assert sorted(first[:4]) == list(range(4))
    assert sorted(first[4:12]) == list(range(8))
    second = advance(curriculum, np.zeros(12)).position.ravel().tolist()
    assert sorted([*first[12:], *second[:2]]) == list(range(12))
    assert sorted(second[2:14]) == list(range(12))
    assert len(set(second[14:])) == 8
    assert curriculum.record()["passes"]["s"] == pytest.approx(4 + 8 / 12, rel=1e-5)


def test_a_pacing_that_listens_needs_the_losses():
    curriculum = curriculum_of({"name": "self_paced"})
    curriculum.next_window(0, 2)
    with pytest.raises(ValueError, match="must bring sample_losses"):
        curriculum.finish_window(WindowReport(2, {}, {}))
    with pytest.raises(ValueError, match="stream 's' has no difficulty, and the pacing goes by text_length"):
        curriculum_of({"name": "anti", "difficulty": TEXT})
    with pytest.raises(ValueError, match=r"stream 's' has 4 samples, and difficulties \(3,\)"):
        curriculum_of({"name": "none"}, difficulty=np.zeros(3, np.float32))


def test_a_sample_that_never_gets_a_loss_is_not_waited_for_longer_than_two_passes():
    """Its steps are left out for NaN; then it counts as the hardest, and half of four are the two easiest."""
    curriculum = curriculum_of({"name": "loss_quantile", "drop_hardest": 0.5}, size=4)
    pools = []
    for _ in range(4):
        advance(curriculum, [2.0, np.nan, 1.0, 3.0])
        pools.append(curriculum.record()["pools"]["s"])
    assert pools == [4, 4, 2, 2]
    assert curriculum.arrays()["losses/s"].tolist() == [2.0, np.finfo(np.float32).max, 1.0, 3.0]
    assert set(advance(curriculum, [2.0, 0.0, 1.0, 3.0]).position.ravel().tolist()) == {0, 2}


@pytest.mark.parametrize("name", ["self_paced", "self_paced_linear"])
def test_a_threshold_is_a_number_where_samples_never_get_a_loss(name):
    """Two of four without a loss: whatever the quantile, they stay outside, and what is known is inside."""
    curriculum = curriculum_of({"name": name, "start": 0.9, "growth": 2.0}, size=4)
    for _ in range(6):
        advance(curriculum, [2.0, np.nan, 1.0, np.nan])
    assert curriculum.record()["pools"]["s"] == 2
