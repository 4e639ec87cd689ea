"""The curve of a range test on losses whose answer is known."""

import math

import pytest

from mmtrain.tuning.lr_curve import LrCurve, ramp


def curve_of(losses, *, smoothing=0.0, start=1e-7, end=1.0):
    curve = LrCurve(smoothing)
    for number, loss in enumerate(losses):
        curve.add(ramp(start, end, len(losses), number), loss)
    return curve


def test_the_ramp_rises_by_equal_factors():
    assert [ramp(1e-3, 10.0, 5, finished) for finished in range(5)] == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10])
    assert ramp(1e-3, 10.0, 5, 9) == pytest.approx(10)


def test_smoothing_is_bias_corrected():
    """b = 1/2, losses 4, 2, 2: averages 2, 2, 2 over 1/2, 3/4, 7/8."""
    assert curve_of([4.0, 2.0, 2.0], smoothing=0.5).smoothed == pytest.approx([4, 8 / 3, 16 / 7])


def test_the_suggestion_is_the_steepest_descent_in_log_lr():
    """A sigmoid fall around lr 1e-3 and a rise from 1e-1 on; over lr itself the steepest point would lie higher."""

    def loss(lr):
        return 2 - 1 / (1 + math.exp(-3 * (math.log10(lr) + 3))) + max(0.0, math.log10(lr) + 1) ** 2

    lrs = [ramp(1e-7, 1.0, 71, number) for number in range(71)]
    curve = curve_of([loss(lr) for lr in lrs])
    assert curve.suggestion() == pytest.approx(1e-3)
    assert min(curve.slopes()) == pytest.approx(-3 / 4 / math.log(10), rel=0.02)  # a sigmoid's slope is k/4 at its middle
    trailing = curve_of([loss(lr) for lr in lrs], smoothing=0.5)  # trails by one step
    assert 1e-3 < trailing.suggestion() < 2e-3


def test_a_fall_behind_the_minimum_is_not_suggested():
    """After a spike the loss falls faster than ever before, but from where training is broken already."""
    losses = [3.0, 3.0, 2.95, 2.7, 2.5, 2.5, 9.0, 4.0, 4.0]
    assert curve_of(losses).suggestion() == pytest.approx(ramp(1e-7, 1.0, 9, 3))


def test_no_suggestion_where_nothing_falls():
    assert curve_of([1.0, 1.1, 1.2, 1.3]).suggestion() is None
    assert curve_of([1.0, 0.9]).suggestion() is None


def test_a_low_first_loss_hides_no_fall():
    """1 at first, then 4, and 2 from the place 40 on: the smoothed curve never comes below its first point."""
    curve = curve_of([1.0] + [4.0] * 39 + [2.0] * 20, smoothing=0.8)
    assert min(curve.smoothed) == 1.0
    assert curve.suggestion() == pytest.approx(curve.lrs[40])
    assert curve.least() == 59
    assert curve.fall() == pytest.approx(17 / 5 - curve.smoothed[59])  # the mean of 1, 4, 4, 4, 4
    assert not curve.is_noisy


def test_what_noise_hides_is_no_fall():
    """b = 1/2: the noise is that of the losses times sqrt(1/3); losses of 3 +- 1 in turn scatter about theirs by 2/3."""
    curve = curve_of([2.0, 4.0] * 30, smoothing=0.5)
    assert curve.noise() == pytest.approx(1.4826 * (2 / 3) / math.sqrt(3), rel=1e-6)
    assert curve.is_noisy
    assert curve.suggestion() is None
    falling = curve_of([(2.0, 4.0)[number % 2] - max(0, number - 30) / 5 for number in range(60)], smoothing=0.5)
    assert not falling.is_noisy
    assert falling.suggestion() in falling.lrs[29:]


def test_the_picture_ends_where_the_losses_diverge():
    curve = curve_of([4.0, 5.0, 1.0, 2.0, 77.0])
    assert curve.diverged
    assert curve.drawn() == pytest.approx((1 - 0.2, 5 + 0.2))
    assert curve_of([4.0, 5.0, 1.0, 2.0]).drawn() is None


def test_divergence_is_four_times_the_best():
    curve = LrCurve(0.0)
    for loss in (1.0, 0.5, 2.0):
        curve.add(1e-3, loss)
    assert not curve.diverged  # 2 is four times a half, not more
    curve.add(1e-3, 2.01)
    assert curve.diverged
    below = curve_of([-1.0, 1.9])  # a loss may be negative: three times its size above it
    assert not below.diverged
    assert curve_of([-1.0, 2.1]).diverged
    broken = curve_of([1.0, math.nan])
    assert broken.diverged
    assert broken.losses == [1.0]
