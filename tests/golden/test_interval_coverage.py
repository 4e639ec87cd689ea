"""In simulation, where the truth is known: how often intervals hold, and how often paired tests see what is not there."""

import numpy as np
import pytest
from scipy.special import ndtri

from mmtrain.evaluation.comparing import permutation_test
from mmtrain.evaluation.comparison import Pair, estimate
from mmtrain.evaluation.counting import class_moments
from mmtrain.evaluation.moments import Moments, mean_of
from mmtrain.evaluation.statistics import grouped_bootstrap, resample

TRIALS = 2000
ALIKE = 0.3  # the intraclass correlation


def draw(num_groups: int, sizes: str, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Groups [N] of 6 samples, or of 1 to 11, and a standard normal number of each sample, correlated within groups."""
    counts = np.full(num_groups, 6) if sizes == "equal" else generator.integers(1, 12, num_groups)
    groups = np.repeat(np.arange(num_groups), counts)
    shared, own = generator.normal(size=num_groups)[groups], generator.normal(size=len(groups))
    return groups, np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * own


def mean(values: np.ndarray) -> tuple[Moments, float]:
    return mean_of(values), 0.0


def accuracy(values: np.ndarray) -> tuple[Moments, float]:
    """Right in 80 % of the samples."""
    right = (values < ndtri(0.8)).astype(np.int64)
    return class_moments("accuracy", np.ones_like(right), right, 2), 0.8


@pytest.mark.slow
@pytest.mark.parametrize("metric", [mean, accuracy])
@pytest.mark.parametrize("sizes", ["equal", "unequal"])
@pytest.mark.parametrize("num_groups", [10, 30, 100])
def test_intervals_cover(metric, sizes, num_groups):
    generator, hits = np.random.default_rng(num_groups), 0
    for _ in range(TRIALS):
        groups, values = draw(num_groups, sizes, generator)
        statistic, truth = metric(values)
        interval = grouped_bootstrap(statistic, groups, num_resamples=400, seed=0)
        hits += interval.low <= truth <= interval.high
    assert 0.93 <= hits / TRIALS <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("metric", [mean, accuracy])
@pytest.mark.parametrize("sizes", ["equal", "unequal"])
@pytest.mark.parametrize("num_groups", [10, 30, 100])
def test_paired_tests_are_seldom_wrong(metric, sizes, num_groups):
    """Two runs of one skill: what makes a sample hard is shared, and each run has groups that it is better at."""
    generator, wrong = np.random.default_rng(num_groups), np.zeros(2)
    for _ in range(TRIALS):
        groups, hardness = draw(num_groups, sizes, generator)
        runs = []
        for _ in range(2):
            luck = np.sqrt(ALIKE) * generator.normal(size=num_groups)[groups]
            luck += np.sqrt(1 - ALIKE) * generator.normal(size=len(groups))
            runs.append((hardness + luck) / np.sqrt(2))
        joint, _ = metric(np.concatenate(runs))
        places = np.arange(len(groups))
        pair = Pair(joint=joint, one=places, other=places + len(groups), sources=groups, items=())
        difference = pair.of(pair.one) - pair.of(pair.other)
        bootstrap = estimate(resample(difference, groups, num_resamples=400, seed=0)).p
        wrong += np.array([bootstrap, permutation_test(pair, num_resamples=500, seed=0)]) < 0.05
    print("paired", metric.__name__, sizes, num_groups, *wrong / TRIALS)  # noqa: T201
    assert (wrong / TRIALS <= 0.06).all(), wrong / TRIALS
