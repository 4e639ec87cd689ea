"""Differences between runs against numbers done by hand."""

import itertools
import math

import numpy as np
import pytest

from mmtrain.errors import DataError
from mmtrain.evaluation.comparison import holm, over_groups, over_seeds
from mmtrain.evaluation.predictions import TaskPredictions

NAN = math.nan


def predictions(values, groups, *, labels=None, losses=None, task="mood", stream="a"):
    """A regression task: the predicted values, and 0 for every label unless said."""
    count = len(values)
    streams = [stream] * count if isinstance(stream, str) else stream
    return TaskPredictions(
        task=task,
        kind="regression",
        classes=(),
        ids=np.array([f"s{number}" for number in range(count)]),
        streams=np.array(streams),
        groups=np.array(groups),
        labels=np.zeros(count) if labels is None else np.array(labels, float),
        logits=np.array(values, float),
        probabilities=np.array(values, float),
        losses=np.zeros(count) if losses is None else np.array(losses, float),
    )


def test_differences_of_three_seeds():
    """Mean 2, s 1, t = 2 sqrt(3). For 2 degrees p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14); t(0.975) = 4.302653."""
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.mean, found.num, found.over) == (2.0, 3, "seeds")
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14), abs=1e-12)
    assert over_seeds([-1.0, -2.0, -3.0]).p == found.p


def test_differences_of_two_seeds():
    """Mean 1, s sqrt(2), t = 1. For 1 degree p = 1 - 2 atan(t) / pi = 1/2; t(0.975) = 12.706205."""
    found = over_seeds([0.0, 2.0])
    assert found.p == pytest.approx(0.5, abs=1e-12)
    assert found.high == pytest.approx(1 + 12.706205, abs=1e-5)


@pytest.mark.parametrize(("values", "p"), [([0.0, 0.0], 1.0), ([0.5, 0.5], NAN), ([0.5], NAN), ([], NAN)])
def test_seeds_that_agree_and_seeds_that_are_too_few(values, p):
    assert over_seeds(values).p == pytest.approx(p, nan_ok=True)


@pytest.mark.parametrize("values", [[0.01, 0.01], [-0.5, -0.5, -0.5], [0.7 - 0.6, 0.9 - 0.8, 0.1]])
def test_without_spread_nothing_says_how_sure_a_difference_is(values):
    """0.7 - 0.6 and 0.9 - 0.8 are both 0.1 but for the last bits: what they differ by is no spread."""
    found = over_seeds(values)
    assert found.mean == pytest.approx(values[0], abs=1e-12)
    assert [math.isnan(number) for number in (found.low, found.high, found.p)] == [True] * 3
    assert found.num == len(values)


def test_zeros_are_no_difference_and_a_small_spread_is_one():
    zeros = over_seeds([0.0, 0.0, 0.0])
    assert (zeros.low, zeros.high, zeros.p) == (0.0, 0.0, 1.0)
    small = over_seeds([0.5 - 1e-6, 0.5 + 1e-6])  # mean 0.5, s sqrt(2) 1e-6, error 1e-6; for 1 degree p = 2 / (pi t)
    assert small.p == pytest.approx(2 / (math.pi * 5e5), rel=1e-6)


def test_holm():
    """0.01 x 4, 0.02 x 3, 0.03 x 2 = 0.06 (not less than the one before), 0.04 x 1 raised to 0.06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_counts_comparisons_that_are_not_made_yet():
    assert holm([NAN, 0.01, 0.02]) == pytest.approx([NAN, 0.03, 0.04], nan_ok=True)


def test_the_same_resamples_for_both():
    """Errors far apart between groups, and 0.25 smaller in each sample of one run: a paired difference has no spread."""
    groups = [number // 2 for number in range(12)]
    large = [1.0 + number for number in range(12)]
    better, worse = ({"mood": predictions(values, groups)} for values in ([value - 0.25 for value in large], large))
    found = over_groups(better, "mood/mae", baseline=worse)
    assert (found.mean, found.low, found.high) == pytest.approx((-0.25, -0.25, -0.25))
    assert (found.num, found.over) == (6, "groups")
    assert math.isnan(found.p)  # nothing says how sure a difference without any spread is
    alone = over_groups(better, "mood/mae")
    assert alone.mean == pytest.approx(6.25)
    assert alone.high - alone.low > 3


def test_whole_groups_are_drawn():
    """Of the 27 draws of three groups: their deviation s gives t = (11 / 6) / (s sqrt(3 / 2)), p = 1 - t / sqrt(t^2 + 2)."""
    sizes, means = (1, 2, 3), (-1.0, 0.0, 4.0)
    groups = [number for number, size in enumerate(sizes) for _ in range(size)]
    item = predictions([9.0] * 6, groups, losses=[means[group] for group in groups])
    other = predictions([9.0] * 6, groups, losses=[0.0] * 6)
    found = over_groups({"mood": item}, "mood/loss", baseline={"mood": other}, num_resamples=10_000)
    draws = list(itertools.product(range(3), repeat=3))
    means_drawn = [sum(sizes[g] * means[g] for g in draw) / sum(sizes[g] for g in draw) for draw in draws]
    t = 11 / 6 / (float(np.std(means_drawn)) * math.sqrt(3 / 2))
    assert found.p == pytest.approx(1 - t / math.sqrt(t * t + 2), abs=0.01)
    assert found.mean == pytest.approx(11 / 6)
    assert found.low == pytest.approx(-1.0)  # the farthest resample; the studentized bound is nearer
    assert found.high > 4.0


def test_the_loss_of_all_tasks_is_the_mean_of_their_means():
    """One source in both tasks: the draws of two groups give (1 + 10) / 2, (3 + 30) / 2, or between."""
    both = {
        "mood": predictions([0, 0], ["x", "y"], losses=[1.0, 3.0]),
        "pitch": predictions([0, 0, 0], ["x", "x", "y"], losses=[10.0, 10.0, 30.0], task="pitch"),
    }
    found = over_groups(both, "loss")
    assert found.mean == pytest.approx((2 + 50 / 3) / 2)
    assert (found.low, found.high, found.num) == (5.5, 16.5, 2)


def test_a_stream_of_a_task_and_a_quantile_of_its_losses():
    item = {"mood": predictions([1, 2, 3, 4], [0, 1, 2, 3], losses=[1, 2, 3, 4], stream=["a", "a", "b", "b"])}
    assert over_groups(item, "mood@b/mae").mean == 3.5
    assert over_groups(item, "mood@a/loss").mean == 1.5
    assert over_groups(item, "mood/loss_q50").mean == 2.5
    assert over_groups(item, "mood@b/mae").num == 2


def test_other_samples_cannot_be_paired():
    some = {"mood": predictions([1, 2, 3], [0, 1, 2])}
    fewer = {"mood": predictions([1, 2], [0, 1])}
    elsewhere = {"mood": predictions([1, 2, 3], [0, 1, 2], stream="b")}
    for other in (fewer, elsewhere, {}):
        with pytest.raises(DataError, match="task 'mood': the two runs did not predict the same samples"):
            over_groups(some, "mood/mae", baseline=other)


def test_one_group_has_no_interval():
    found = over_groups({"mood": predictions([1, 2], [0, 0])}, "mood/mae")
    assert found.mean == 1.5
    assert [math.isnan(value) for value in (found.low, found.high, found.p)] == [True] * 3
