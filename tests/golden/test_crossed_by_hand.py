"""The test over seeds and groups against numbers done by hand, and how often it calls equal variants different."""

import math

import numpy as np
import pytest

from mmtrain.errors import DataError
from mmtrain.evaluation.crossed import Sampled, over_seeds_alone, over_seeds_and_groups, sampled
from mmtrain.evaluation.predictions import TaskPredictions

T2, T4 = 4.302653, 2.776445  # Student's t, 0.975, of 2 and 4 degrees


def runs(values, drawn, num_groups=5):
    return [Sampled(value=value, values=np.array(drawn, float), num_groups=num_groups) for value in values]


def against_nothing(values, drawn, num_groups=5):
    """Differences of `values` to a baseline of zeros, whose mean over seeds is `drawn` in the resamples."""
    zeros = runs([0.0] * len(values), [0.0] * len(drawn), num_groups)
    return over_seeds_and_groups(runs(values, drawn, num_groups), zeros)


def test_two_parts_of_the_variance():
    """Seeds: 1, 2, 3, s^2 / S = 1/3. Groups: resamples 1 and 3, variance 1, times 5/4. t weighted by 4/19 and 15/19."""
    found = against_nothing([1.0, 2.0, 3.0], [1.0, 3.0])
    error = math.sqrt(1 / 3 + 5 / 4)
    reach = (4 / 19 * T2 + 15 / 19 * T4) * error
    assert (found.mean, found.num_seeds, found.num_groups) == (2.0, 3, 5)
    assert (found.low, found.high) == pytest.approx((2 - reach, 2 + reach), abs=1e-5)
    assert found.p_seeds == pytest.approx(1 - math.sqrt(12 / 14))


def test_without_spread_of_groups_it_is_the_t_test_over_seeds_and_the_other_way_round():
    found = against_nothing([1.0, 2.0, 3.0], [2.0, 2.0])
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14))
    assert (found.low, found.high) == pytest.approx((2 - T2 / math.sqrt(3), 2 + T2 / math.sqrt(3)), abs=1e-5)
    found = against_nothing([2.0, 2.0, 2.0], [1.0, 3.0], num_groups=3)  # t = 2 / sqrt(3 / 2), again of 2 degrees
    t = 2 / math.sqrt(1.5)
    assert found.p == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert math.isnan(found.p_seeds), "seeds that agree say nothing of seeds"


def test_the_mean_over_seeds_is_what_groups_are_resampled_for():
    """Two resamples, in which two seeds move against each other: their mean stands still, and no group speaks."""
    own = [Sampled(value=1.0 + n, values=np.array(drawn), num_groups=5) for n, drawn in enumerate(([0, 4], [4, 0], [2, 2]))]
    zeros = runs([0.0] * 3, [0.0] * 2)
    assert over_seeds_and_groups(own, zeros).p == pytest.approx(1 - math.sqrt(12 / 14))


def test_no_difference_and_no_spread():
    found = against_nothing([0.0] * 3, [0.0] * 4)
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    found = against_nothing([0.5] * 3, [0.5] * 4)
    assert [math.isnan(number) for number in (found.low, found.high, found.p)] == [True] * 3


def test_too_few_seeds_groups_or_defined_resamples():
    found = against_nothing([1.0, 3.0], [1.0, 3.0])
    assert (found.mean, found.num_seeds, found.num_groups) == (2.0, 2, 0)
    assert all(math.isnan(number) for number in (found.low, found.high, found.p, found.p_seeds))
    for few in (against_nothing([1.0, 2.0, 3.0], [], num_groups=1), against_nothing([1.0, 2.0, 3.0], [math.nan, 2.0])):
        assert few == over_seeds_alone([1.0, 2.0, 3.0])
        assert few.num_groups == 0
    most = against_nothing([1.0, 2.0, 3.0], [math.nan, 1.0, 3.0])
    assert most.p == against_nothing([1.0, 2.0, 3.0], [1.0, 3.0]).p


def test_a_very_large_difference_has_a_small_p():
    found = against_nothing([1e4, 1e4 + 1, 1e4 - 1], [1e4, 1e4 + 0.1])
    assert 0 < found.p < 1e-7
    assert against_nothing([-1e4, -1e4 - 1, -1e4 + 1], [-1e4, -1e4 - 0.1]).p == pytest.approx(found.p)


def predictions(errors, groups):
    count = len(errors)
    return TaskPredictions(
        task="mood",
        kind="regression",
        classes=(),
        ids=np.array([f"s{number}" for number in range(count)]),
        streams=np.array(["a"] * count),
        groups=np.array(groups),
        labels=np.zeros(count),
        logits=np.array(errors, float),
        probabilities=np.array(errors, float),
        losses=np.array(errors, float),
    )


def test_resamples_are_of_whole_groups_and_the_same_for_all_runs():
    one, other = (sampled({"mood": predictions(errors, [0, 0, 1])}, "mood/mae") for errors in ([1, 3, 8], [2, 4, 9]))
    assert (one.value, one.num_groups) == (4.0, 2)
    assert set(np.round(one.values, 6)) == {2.0, 4.0, 8.0}, "both of a group, or one of it"
    assert np.allclose(other.values - one.values, 1.0)
    with pytest.raises(DataError, match="no sample has a loss of this task"):
        sampled({"mood": predictions([1.0], [0])}, "other/mae")


# deviations of seed, group and both together; number of seeds and of groups
WORLDS = [(1, 1, 1, 3, 40), (0, 1, 0, 3, 13)]
MORE = [(1, 0, 0, 3, 40), (1, 2, 0, 3, 40), (0.3, 1, 0, 3, 13), (1, 1.5, 1, 5, 20), (1, 1, 1, 3, 500), (0.5, 1, 0, 10, 8)]
SLOW = [pytest.param(world, marks=pytest.mark.slow) for world in MORE]


@pytest.mark.parametrize("world", [*WORLDS, *SLOW], ids=str)
def test_equal_variants_are_seldom_called_different(world):
    """False positives at 5 %: at most 6 % of 2000 worlds without a difference; of a mean, resampled in closed form."""
    seed, group, both, num_seeds, num_groups = world
    generator = np.random.default_rng(7)
    trials, called, called_by_seeds = 2000, 0, 0
    for _ in range(trials):
        cells = generator.normal(0, seed, (num_seeds, 1)) + generator.normal(0, group, (1, num_groups))
        cells = cells + generator.normal(0, both, (num_seeds, num_groups))
        values, means = cells.mean(axis=1), cells.mean(axis=0)
        spread = means.std() / math.sqrt(num_groups)  # of the mean of resampled groups
        found = against_nothing(values.tolist(), [-spread, spread], num_groups)
        called, called_by_seeds = called + (found.p < 0.05), called_by_seeds + (found.p_seeds < 0.05)
    assert called / trials <= 0.06
    assert called / trials >= 0.01, "and it is no test that never speaks"
    if seed and not both and group / math.sqrt(num_groups) > seed / math.sqrt(num_seeds):
        assert called_by_seeds / trials > 0.1, "seeds alone say nothing of groups"


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["accuracy", "auroc"])
def test_equal_variants_with_real_predictions(measure):
    """The whole path: a binary task, 12 groups of 8 samples, 3 seeds; scores of both variants drawn alike."""
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(12), 8)
    trials, called = 300, 0
    for _ in range(trials):
        labels = (generator.random(96) < 0.5).astype(float)
        ability = [generator.normal(0, 0.7, 12)[groups] for _ in range(2)]
        variants = []
        for variant in range(2):
            scores = [
                (labels - 0.5) * 2 + ability[variant] * (labels - 0.5) + generator.normal(0, 0.3) * (labels - 0.5)
                + generator.normal(0, 1, 96)
                for _ in range(3)
            ]  # fmt: skip
            items = [binary(labels, score, groups) for score in scores]
            variants.append([sampled({"funny": item}, f"funny/{measure}", num_resamples=200) for item in items])
        called += over_seeds_and_groups(*variants).p < 0.05
    assert called / trials <= 0.06


def binary(labels, scores, groups):
    probabilities = 1 / (1 + np.exp(-scores))
    return TaskPredictions(
        task="funny",
        kind="binary",
        classes=(),
        ids=np.array([f"s{number:03d}" for number in range(len(labels))]),
        streams=np.array(["a"] * len(labels)),
        groups=groups,
        labels=labels,
        logits=scores,
        probabilities=probabilities,
        losses=np.zeros(len(labels)),
    )
