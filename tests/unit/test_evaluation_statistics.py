"""The grouped bootstrap: known answers, coverage in simulation, and its edges."""

import math
import time

import numpy as np
import pytest

from mmtrain.evaluation.moments import Moments, mean_of
from mmtrain.evaluation.ranking import Ranking
from mmtrain.evaluation.statistics import Interval, grouped_bootstrap, resample


def mean_interval(values: np.ndarray, groups: np.ndarray, **options: object) -> Interval:
    return grouped_bootstrap(lambda index: float(values[index].mean()), groups, seed=0, **options)


def test_whole_groups_are_drawn() -> None:
    """Groups of 1, 2 and 3 samples: every resample holds each group's samples equally often."""
    groups = np.array(["c", "b", "c", "a", "b", "c"])
    members = {name: set(np.flatnonzero(groups == name)) for name in "abc"}
    seen = set()

    def statistic(index: np.ndarray) -> float:
        counts = np.bincount(index, minlength=6)
        for numbers in members.values():
            assert len({counts[number] for number in numbers}) == 1
        draws = sum(counts[min(numbers)] for numbers in members.values())
        assert draws == 3
        seen.add(tuple(counts))
        return float(len(index))

    assert grouped_bootstrap(statistic, groups, num_resamples=200, seed=0).num_groups == 3
    assert len(seen) == 10  # all multisets of 3 of 3 groups


def test_many_groups_give_the_textbook_interval() -> None:
    """Mean of 400 independent samples of deviation 1: plus and minus 1.96 / 20."""
    values = np.random.default_rng(0).normal(size=400)
    values = (values - values.mean()) / values.std(ddof=1)
    interval = mean_interval(values, np.arange(400), num_resamples=4000)
    assert interval.low == pytest.approx(-1.96 / 20, abs=0.006)
    assert interval.high == pytest.approx(1.96 / 20, abs=0.006)


def test_few_groups_give_student_s_interval() -> None:
    """Mean of 10 groups: plus and minus t(9) = 2.262 standard errors; plain percentiles stop at 1.86 of them."""
    values = np.array([-1.5, -1.0, -0.7, -0.4, -0.1, 0.1, 0.4, 0.7, 1.0, 1.5])
    interval = mean_interval(values, np.arange(10), num_resamples=20000)
    expected = 2.262 * values.std(ddof=1) / math.sqrt(10)
    assert (interval.low, interval.high) == pytest.approx((-expected, expected), rel=0.05)


def test_copies_within_groups_add_no_certainty() -> None:
    """Each of 50 values ten times: by group the interval stays, sample by sample it would shrink by sqrt(10)."""
    values = np.random.default_rng(1).normal(size=50)
    single = mean_interval(values, np.arange(50))
    copied = mean_interval(np.repeat(values, 10), np.repeat(np.arange(50), 10))
    naive = mean_interval(np.repeat(values, 10), np.arange(500))
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))
    assert (single.high - single.low) / (naive.high - naive.low) == pytest.approx(math.sqrt(10), rel=0.1)


def test_a_constant_statistic_has_no_width() -> None:
    assert mean_interval(np.full(30, 0.25), np.arange(30) % 5) == Interval(0.25, 0.25, 5)


def test_the_same_seed_gives_the_same_interval() -> None:
    values, groups = np.random.default_rng(2).normal(size=60), np.arange(60) % 12
    assert mean_interval(values, groups) == mean_interval(values, groups)
    other = grouped_bootstrap(lambda index: float(values[index].mean()), groups, seed=1)
    assert other != mean_interval(values, groups)


def test_higher_confidence_is_wider() -> None:
    values, groups = np.random.default_rng(3).normal(size=60), np.arange(60) % 20
    narrow, wide = (mean_interval(values, groups, confidence=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_one_group_says_nothing() -> None:
    interval = mean_interval(np.arange(5.0), np.zeros(5))
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.num_groups == 1
    assert mean_interval(np.empty(0), np.empty(0)).num_groups == 0


def test_undefined_resamples_are_left_out_and_counted() -> None:
    """One positive among 10 groups: AUROC is undefined whenever it is not drawn, (9/10)^10 = 35 % of the time."""
    labels = np.array([1.0] + [0.0] * 9)
    ranking = Ranking(labels, np.arange(10)[::-1])
    interval = grouped_bootstrap(ranking.auroc, np.arange(10), seed=0)
    assert interval.num_undefined == pytest.approx(349, abs=50)
    assert interval.low == interval.high == 1
    hopeless = grouped_bootstrap(lambda _: math.nan, np.arange(10), num_resamples=20, seed=0)
    assert math.isnan(hopeless.low)
    assert hopeless.num_undefined == 20


def test_thousands_of_samples_take_seconds() -> None:
    generator = np.random.default_rng(0)
    ranking = Ranking(generator.integers(0, 2, 5000), generator.normal(size=5000))
    start = time.process_time()
    grouped_bootstrap(ranking.average_precision, np.arange(5000) % 900, seed=0)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("num_groups", [10, 20, 60])
def test_coverage_of_a_mean_with_random_effects(num_groups: int) -> None:
    """Groups of 1 to 10 samples that share an effect as large as the noise; the truth is 0, nominal coverage 95 %."""
    generator = np.random.default_rng(num_groups)
    hits, trials = 0, 200
    for _ in range(trials):
        groups = np.repeat(np.arange(num_groups), generator.integers(1, 11, num_groups))
        values = generator.normal(size=num_groups)[groups] + generator.normal(size=len(groups))
        interval = mean_interval(values, groups, num_resamples=300)
        hits += interval.low < 0 < interval.high
    assert 0.90 <= hits / trials <= 0.99


@pytest.mark.slow
def test_coverage_of_auroc_with_random_effects() -> None:
    """Positives are one deviation higher, groups share half of the variance: the truth is Phi(1 / sqrt(2))."""
    generator = np.random.default_rng(0)
    truth = 0.5 * (1 + math.erf(0.5))
    hits, trials = 0, 400
    for _ in range(trials):
        groups = np.repeat(np.arange(30), generator.integers(2, 11, 30))
        labels = generator.integers(0, 2, len(groups))
        noise = generator.normal(size=30)[groups] + generator.normal(size=len(groups))
        ranking = Ranking(labels, labels + noise / math.sqrt(2))
        interval = grouped_bootstrap(ranking.auroc, groups, num_resamples=400, seed=0)
        hits += interval.low < truth < interval.high
    assert 0.91 <= hits / trials <= 0.985


def test_the_error_of_a_mean_is_the_textbook_s() -> None:
    """1, 2 and 6 in groups of their own: deviation sqrt(7) (over 2), error sqrt(7 / 3). Twice the first and once the last:
    mean 8 / 3, sum of w (x - mean)^2 2 (5 / 3)^2 + (10 / 3)^2 = 50 / 3, error sqrt(3 / 2 * 50 / 3) / 3."""
    statistic = mean_of(np.array([1.0, 2, 6]))
    values, errors = statistic.weighted(statistic.group_sums(np.arange(3), 3), np.array([[1, 1, 1], [2, 0, 1]]))
    assert values == pytest.approx([3, 8 / 3])
    assert errors == pytest.approx([math.sqrt(7 / 3), 5 / 3])


def test_the_error_of_a_mean_over_unequal_groups() -> None:
    """Sums 3, 3 and 3 of 1, 3 and 2 samples: mean 9 / 6, residuals 3 / 2, -3 / 2 and 0; error sqrt(3 / 2 * 9 / 2) / 6."""
    statistic, codes = mean_of(np.array([3.0, 1, 1, 1, 1, 2])), np.array([0, 1, 1, 1, 2, 2])
    found = resample(statistic, codes, num_resamples=10, seed=0)
    assert found.value == 1.5
    assert found.error == pytest.approx(math.sqrt(27 / 4) / 6)


def test_a_mean_by_its_sums_is_resampled_as_one_by_its_samples_is() -> None:
    values, groups = np.random.default_rng(0).normal(size=50), np.arange(50) % 9
    by_sums = resample(mean_of(values), groups, num_resamples=30, seed=4)
    by_samples = resample(lambda index: float(values[index].mean()), groups, num_resamples=30, seed=4)
    assert by_sums.values == pytest.approx(by_samples.values)
    assert by_samples.errors is None


def test_a_bound_is_the_farther_of_two_and_stays_where_the_metric_can_be() -> None:
    """Losses with a long tail: the studentized interval reaches farther on both sides, and below what a loss can be."""
    values = np.exp(np.random.default_rng(3).normal(size=12) * 1.5)
    plain = mean_interval(values, np.arange(12))
    both = grouped_bootstrap(mean_of(values), np.arange(12), seed=0)
    assert both.low < 0 < plain.low
    assert both.high > plain.high
    capped = grouped_bootstrap(mean_of(values, (0, plain.high + 1)), np.arange(12), seed=0)
    assert (capped.low, capped.high) == (0, plain.high + 1)
    narrow = grouped_bootstrap(mean_of(values, (plain.low + 1, plain.high - 1)), np.arange(12), seed=0)
    assert (narrow.low, narrow.high) == pytest.approx((plain.low, plain.high))
    statistic = mean_of(np.array([0.25] * 30))
    assert grouped_bootstrap(statistic, np.arange(30) % 5, seed=0) == Interval(0.25, 0.25, 5)


def test_a_difference_is_of_the_same_samples() -> None:
    one, other = mean_of(np.array([1.0, 2, 3]), (0, 1)), mean_of(np.array([0.0, 0, 3]), (0, 2))
    assert isinstance(one - other, Moments)
    assert (one - other)(np.array([0, 1])) == pytest.approx(1.5)
    assert (one - other).bounds == (-2, 1)
