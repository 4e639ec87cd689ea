"""Loss weights that can be computed by hand."""

import math

import pytest

from mmtrain.curriculum.reports import WindowReport
from mmtrain.curriculum.weighting.adaptive import Adaptive
from mmtrain.curriculum.weighting.dwa import Dwa
from mmtrain.curriculum.weighting.inverse_loss import InverseLoss
from mmtrain.curriculum.weighting.rlw import Rlw
from mmtrain.curriculum.weighting.task_losses import TaskLosses

AB, ABC = ("a", "b"), ("a", "b", "c")


def report(step, **losses):
    """One stream `s` with these task losses."""
    return WindowReport(step=step, losses={"s": losses}, counts={"s": 10})


def test_dwa_is_equal_until_two_windows_and_then_equation_7():
    weighting = Dwa(temperature=2.0)
    assert weighting.weights(0, AB) == {"a": 1.0, "b": 1.0}
    weighting.observe(report(10, a=4.0, b=2.0))
    assert weighting.weights(10, AB) == {"a": 1.0, "b": 1.0}
    weighting.observe(report(20, a=2.0, b=2.0))  # ratios 1/2 and 1
    a, b = math.exp(0.25), math.exp(0.5)
    assert weighting.weights(20, AB) == pytest.approx({"a": 2 * a / (a + b), "b": 2 * b / (a + b)})


def test_a_higher_temperature_evens_dwa_out():
    weights = []
    for temperature in (0.5, 50.0):
        weighting = Dwa(temperature=temperature)
        weighting.observe(report(1, a=1.0, b=1.0))
        weighting.observe(report(2, a=0.5, b=1.0))
        weights.append(weighting.weights(2, AB)["b"])
    assert weights[0] > weights[1] > 1.0


def test_inverse_loss_gives_every_task_the_same_part_of_the_total():
    weighting = InverseLoss()
    assert weighting.weights(0, ABC) == {"a": 1.0, "b": 1.0, "c": 1.0}
    losses = {"a": 1.0, "b": 2.0, "c": 4.0}
    weighting.observe(report(5, **losses))
    weights = weighting.weights(5, ABC)  # 1 : 1/2 : 1/4, summing to 3
    assert weights == pytest.approx({"a": 12 / 7, "b": 6 / 7, "c": 3 / 7})
    assert len({round(weights[task] * loss, 9) for task, loss in losses.items()}) == 1


def test_inverse_loss_averages_and_a_task_not_seen_counts_as_the_mean():
    weighting = InverseLoss(smoothing=0.5)
    weighting.observe(report(1, a=2.0))
    assert weighting.weights(1, AB) == pytest.approx({"a": 1.0, "b": 1.0})
    weighting.observe(report(2, a=4.0, b=1.0))  # a: (2 + 4) / 2 = 3, b: its first
    assert weighting.weights(2, AB) == pytest.approx({"a": 0.5, "b": 1.5})


def test_adaptive_steps_up_after_a_rise_down_after_a_fall_and_back_again():
    weighting = Adaptive(tasks=("a", "b"), factor=2.0, lowest=0.25, highest=4.0)
    weighting.observe(report(1, a=1.0, b=1.0))
    assert weighting.weights(1, AB) == {"a": 1.0, "b": 1.0}
    weighting.observe(report(2, a=3.0, b=0.5))  # a: 2, b: 1/2
    assert weighting.weights(2, AB) == pytest.approx({"a": 1.6, "b": 0.4})
    weighting.observe(report(3, a=1.0, b=0.6))  # both undone
    assert weighting.weights(3, AB) == pytest.approx({"a": 1.0, "b": 1.0})


def test_adaptive_stays_inside_its_bounds():
    weighting = Adaptive(tasks=("a", "b"), factor=10.0, lowest=0.5, highest=2.0)
    for step in range(1, 6):
        weighting.observe(report(step, a=float(step), b=1.0 / step))
    assert weighting.weights(5, AB) == pytest.approx({"a": 2 * 2 / 2.5, "b": 2 * 0.5 / 2.5})


def test_rlw_draws_are_standard_normal_differ_by_step_task_and_seed_and_repeat():
    weighting = Rlw(tasks=("a", "b"), seed=7)
    draws = [weighting.normal("a", step) for step in range(4000)]
    mean = sum(draws) / len(draws)
    variance = sum((draw - mean) ** 2 for draw in draws) / len(draws)
    assert abs(mean) < 4 / math.sqrt(4000)
    assert abs(variance - 1) < 4 * math.sqrt(2 / 4000)
    assert weighting.weights(3, AB) == Rlw(tasks=("a", "b"), seed=7).weights(3, AB)
    assert weighting.weights(3, AB) != weighting.weights(4, AB)
    assert weighting.weights(3, AB) != Rlw(tasks=("a", "b"), seed=8).weights(3, AB)
    a, b = math.exp(weighting.normal("a", 3)), math.exp(weighting.normal("b", 3))
    assert weighting.weights(3, AB) == pytest.approx({"a": 2 * a / (a + b), "b": 2 * b / (a + b)})


def test_a_tasks_loss_is_the_mean_of_its_streams_whatever_their_shares():
    losses = TaskLosses()
    both = WindowReport(step=1, losses={"x": {"t": 1.0}, "y": {"t": 3.0, "u": 5.0}}, counts={"x": 1, "y": 99})
    assert losses.update(both) == {"t": 2.0, "u": 5.0}
    only_x = WindowReport(step=2, losses={"x": {"t": 2.0}}, counts={"x": 100})
    assert losses.update(only_x) == {"t": 2.5, "u": 5.0}  # y keeps its last value
