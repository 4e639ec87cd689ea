"""Learning-rate factors that can be checked in the head."""

from math import inf, nan

import pytest
import torch
from torch import nn

from mmtrain.curriculum.reports import EvalReport
from mmtrain.engine.schedules import LR_SCHEDULES
from mmtrain.engine.schedules.constant import ConstantConfig
from mmtrain.engine.schedules.cosine import CosineConfig
from mmtrain.engine.schedules.cosine_restarts import CosineRestartsConfig, cycle_borders
from mmtrain.engine.schedules.exponential import ExponentialConfig
from mmtrain.engine.schedules.inverse_square_root import InverseSquareRootConfig
from mmtrain.engine.schedules.linear import LinearConfig
from mmtrain.engine.schedules.multi_step import MultiStepConfig
from mmtrain.engine.schedules.polynomial import PolynomialConfig
from mmtrain.engine.schedules.reduce_on_plateau import ReduceOnPlateauConfig
from mmtrain.errors import ConfigError


def build(config, *, total, steps_per_epoch=10, peaks=(1.0,)):
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks]
    optimizer = torch.optim.SGD(groups)
    return config.build(optimizer, total=total, steps_per_epoch=steps_per_epoch), optimizer


def rates(config, *, total, steps=None, steps_per_epoch=10):
    """The rate of each step in turn, of a peak of 1."""
    schedule, optimizer = build(config, total=total, steps_per_epoch=steps_per_epoch)
    found = []
    for _ in range(total if steps is None else steps):
        found.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return found


def test_warmup_reaches_the_peak_with_its_last_step_and_linear_ends_one_step_before_zero():
    assert rates(LinearConfig(warmup=4), total=8) == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert rates(LinearConfig(warmup=4), total=8, steps=10)[8:] == [0.0, 0.0]  # steps that nobody planned
    assert rates(LinearConfig(warmup=0, end=0.5), total=4, steps=5) == [1.0, 0.875, 0.75, 0.625, 0.5]


@pytest.mark.parametrize(("warmup", "expected"), [(0.5, 0.2), (5, 0.2), (0, 1.0), (1, 1.0)])
def test_warmup_is_a_share_below_one_and_steps_from_one_on(warmup, expected):
    assert rates(LinearConfig(warmup=warmup), total=10)[0] == pytest.approx(expected)


def test_a_warmup_of_two_and_a_half_steps_is_refused():
    with pytest.raises(ValueError, match=r"2\.5 is neither a share below 1 nor a whole number"):
        LinearConfig(warmup=2.5)


@pytest.mark.parametrize("row", LR_SCHEDULES)
def test_every_schedule_warms_up_and_gives_every_group_its_share(row):
    config = row(warmup=4, **({"milestones": (1,)} if row is MultiStepConfig else {}))
    schedule, optimizer = build(config, total=20, peaks=(1.0, 0.02))
    for expected in (0.25, 0.5, 0.75, 1.0, 1.0):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([expected, 0.02 * expected])
        schedule.step()
    for _ in range(12):
        schedule.step()
        assert 0 <= optimizer.param_groups[0]["lr"] <= 1


def test_constant():
    assert rates(ConstantConfig(warmup=2), total=5) == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_cosine_is_one_half_in_the_middle():
    # cos(0), cos(60), cos(90), cos(120), cos(180) degrees are 1, 1/2, 0, -1/2, -1
    found = rates(CosineConfig(warmup=0), total=12, steps=14)
    assert [found[step] for step in (0, 4, 6, 8, 12, 13)] == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
    assert rates(CosineConfig(warmup=0, end=0.2), total=4)[2] == pytest.approx(0.6)


def test_cosine_restarts_at_whole_steps():
    found = rates(CosineRestartsConfig(warmup=0, cycles=3), total=12, steps=13)
    assert found[0] == found[4] == found[8] == 1.0
    assert found[2] == found[6] == found[10] == pytest.approx(0.5)
    assert found[12] == pytest.approx(0.0)
    assert cycle_borders(7, cycles=3, growth=2.0) == [0, 1, 3, 7]
    assert cycle_borders(10, cycles=3, growth=1.0) == [0, 3, 7, 10]
    grown = rates(CosineRestartsConfig(warmup=2, cycles=2, growth=2.0, end=0.5), total=14)
    assert [grown[step] for step in (2, 4, 6, 10)] == pytest.approx([1.0, 0.75, 1.0, 0.75])


def test_cycles_that_do_not_fit_are_refused():
    message = r"schedule.cycles: 5 cycles that grow 1 times do not fit in the 4 steps behind warm-up; write fewer"
    with pytest.raises(ConfigError, match=message):
        rates(CosineRestartsConfig(warmup=0, cycles=5), total=4)


def test_exponential_halves_every_epoch():
    found = rates(ExponentialConfig(warmup=0, gamma=0.25), total=30)
    assert [found[step] for step in (0, 5, 10, 20)] == [1.0, 0.5, 0.25, 0.0625]
    assert rates(ExponentialConfig(warmup=2, gamma=0.5, unit="steps"), total=5) == [0.5, 1.0, 1.0, 0.5, 0.25]


def test_milestones_count_from_the_start_in_epochs_or_steps():
    found = rates(MultiStepConfig(warmup=2, milestones=(1, 1.5), gamma=0.5), total=20)
    assert found == [0.5] + [1.0] * 9 + [0.5] * 5 + [0.25] * 5
    found = rates(MultiStepConfig(warmup=0, milestones=(1, 3), gamma=0.1, unit="steps"), total=4)
    assert found == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_milestones_out_of_order_are_refused():
    with pytest.raises(ValueError, match=r"milestones: 2 stands behind 3; write them in rising order"):
        MultiStepConfig(milestones=(3, 2))


def test_polynomial_is_a_power_of_the_rest():
    assert rates(PolynomialConfig(warmup=0, power=2), total=4, steps=5) == [1.0, 0.5625, 0.25, 0.0625, 0.0]
    assert rates(PolynomialConfig(warmup=0, power=1, end=0.5), total=2) == [1.0, 0.75]


def test_inverse_square_root_is_one_half_at_four_times_the_scale():
    found = rates(InverseSquareRootConfig(warmup=4), total=37)
    assert [found[step] for step in (3, 4, 16, 36)] == [1.0, 1.0, 0.5, 1 / 3]  # sqrt(4 / 4), sqrt(4 / 16), sqrt(4 / 36)
    assert rates(InverseSquareRootConfig(warmup=0, timescale=1), total=4)[3] == 0.5


def test_inverse_square_root_needs_a_scale():
    with pytest.raises(ConfigError, match=r"training.schedule.timescale: inverse_square_root without a step of warm-up"):
        rates(InverseSquareRootConfig(warmup=0), total=4)


def on_plateau(values, **settings):
    """The rate of the step after each evaluation."""
    schedule, optimizer = build(ReduceOnPlateauConfig(warmup=0, **settings), total=100)
    found = []
    for step, value in enumerate(values):
        schedule.observe(EvalReport(step, {"val/loss": value}))
        found.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return found


def test_the_rate_falls_at_the_second_evaluation_without_gain_and_the_count_begins_anew():
    found = on_plateau([1.0, 0.5, 0.5, 0.6, 0.6, 0.6, 0.4, 0.4], gamma=0.5, patience=2)
    assert found == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_plateau_of_a_score_counts_upwards_and_a_small_gain_is_none():
    assert on_plateau([0.5, 0.6, 0.5], mode="max", patience=1) == [1.0, 1.0, 0.1]
    assert on_plateau([1.0, 0.995], patience=1, improve_by=0.01) == [1.0, 0.1]
    assert on_plateau([1.0, 0.985], patience=1, improve_by=0.01) == [1.0, 1.0]


def test_no_number_is_no_gain_and_the_factor_has_a_floor():
    assert on_plateau([1.0, nan, -inf], patience=1, gamma=0.5, floor=0.3) == [1.0, 0.5, 0.3]


def test_evaluations_of_the_warmup_are_not_heard():
    schedule, optimizer = build(ReduceOnPlateauConfig(warmup=2, patience=1), total=10)
    report = EvalReport(1, {"val/loss": 1.0})
    for expected in (0.5, 1.0):
        assert optimizer.param_groups[0]["lr"] == expected
        schedule.observe(report)
        schedule.observe(report)
        schedule.step()
    schedule.observe(report)
    assert optimizer.param_groups[0]["lr"] == 1.0
    schedule.observe(report)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_an_evaluation_without_the_metric_is_told():
    schedule, _ = build(ReduceOnPlateauConfig(warmup=0, metric="val/a/f1"), total=10)
    with pytest.raises(ConfigError, match=r"training.schedule.metric: the evaluations have no 'val/a/f1'"):
        schedule.observe(EvalReport(1, {"val/loss": 1.0}))


@pytest.mark.parametrize("row", LR_SCHEDULES)
def test_a_schedule_goes_on_where_it_was_saved(row):
    settings = {"milestones": (0.9,)} if row is MultiStepConfig else {}
    first, one = build(row(warmup=2, **settings), total=20)
    second, other = build(row(warmup=2, **settings), total=20)
    for step in range(18):
        if step == 7:
            second.load_state_dict(first.state_dict())
        assert step < 7 or other.param_groups[0]["lr"] == one.param_groups[0]["lr"]
        for schedule in (first, second) if step >= 7 else (first,):
            schedule.step()
            if step % 2:
                schedule.observe(EvalReport(step, {"val/loss": 1.0}))
    assert one.param_groups[0]["lr"] != 1.0 or row is ConstantConfig
