"""Every metric against scikit-learn or scipy on random data, tied scores included."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from mmtrain.errors import ConfigError
from mmtrain.evaluation.metrics import metrics
from mmtrain.evaluation.moments import Moments
from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.evaluation.ranking import Ranking, average_ranks
from mmtrain.evaluation.resampling import statistic_of

seeds = st.integers(0, 2**31)


def predictions(kind: str, labels: np.ndarray, logits: np.ndarray, probabilities: np.ndarray) -> TaskPredictions:
    count, outputs = len(labels), logits.shape[-1] if logits.ndim == 2 else 0
    return TaskPredictions(
        task="t",
        kind=kind,
        classes=tuple(f"c{number}" for number in range(outputs)),
        ids=np.array([f"s{number}" for number in range(count)]),
        streams=np.full(count, "a"),
        groups=np.array([f"g{number % 7}" for number in range(count)]),
        labels=labels.astype(np.float64),
        logits=logits,
        probabilities=probabilities,
        losses=np.zeros(count),
    )


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def binary(seed: int, *, tied: bool) -> TaskPredictions:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(60) % 4 == 0)
    logits = generator.normal(size=60) + labels
    logits = np.round(logits) + 0.25 if tied else logits
    return predictions("binary", labels, logits, sigmoid(logits))


def multiclass(seed: int, *, tied: bool) -> TaskPredictions:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(80) % 4)
    logits = generator.normal(size=(80, 4)) + np.eye(4)[labels]
    exponents = np.exp(logits)
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    return predictions("multiclass", labels, logits, np.round(probabilities, 1) if tied else probabilities)


def multilabel(seed: int, *, tied: bool) -> TaskPredictions:
    generator = np.random.default_rng(seed)
    labels = np.stack([generator.permutation(np.arange(50) % period == 0) for period in (2, 3, 10)], axis=1)
    logits = generator.normal(size=(50, 3)) + labels
    logits = np.round(logits) + 0.25 if tied else logits
    return predictions("multilabel", labels, logits, sigmoid(logits))


def regression(seed: int, *, tied: bool) -> TaskPredictions:
    generator = np.random.default_rng(seed)
    labels, noise = generator.normal(3, 2, size=(2, 40))
    values = labels + noise
    labels, values = (np.round(labels), np.round(values)) if tied else (labels, values)
    return predictions("regression", labels, values, values)


def compare(item: TaskPredictions, expected: dict[str, float]) -> None:
    found = dict(metrics(item))
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=2e-6), name


@given(seeds, st.booleans())
@settings(max_examples=15, deadline=None)
def test_binary(seed: int, tied: bool) -> None:
    item = binary(seed, tied=tied)
    labels, chosen = item.labels, item.probabilities > 0.5
    expected = {
        "accuracy": sk.accuracy_score(labels, chosen),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, chosen),
        "mcc": sk.matthews_corrcoef(labels, chosen),
        "auroc": sk.roc_auc_score(labels, item.logits),
        "average_precision": sk.average_precision_score(labels, item.logits),
    }
    names = ("precision", "recall", "f1")
    for average, prefix in (("macro", "macro_"), ("binary", "")):
        scores = sk.precision_recall_fscore_support(labels, chosen, average=average, zero_division=np.nan)
        expected |= {prefix + name: value for name, value in zip(names, scores, strict=False)}
    compare(item, expected)


@given(seeds, st.booleans())
@settings(max_examples=15, deadline=None)
def test_multiclass(seed: int, tied: bool) -> None:
    item = multiclass(seed, tied=tied)
    labels, chosen = item.labels, item.probabilities.argmax(axis=1)
    scores = sk.precision_recall_fscore_support(labels, chosen, average="macro", zero_division=0)
    one_hot = np.eye(4)[labels.astype(int)]
    per_class = [sk.roc_auc_score(one_hot[:, number], item.probabilities[:, number]) for number in range(4)]
    expected = {
        "accuracy": sk.accuracy_score(labels, chosen),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, chosen),
        "mcc": sk.matthews_corrcoef(labels, chosen),
        "macro_precision": scores[0],
        "macro_recall": scores[1],
        "macro_f1": scores[2],
        "auroc": np.mean(per_class),
        "average_precision": sk.average_precision_score(one_hot, item.probabilities, average="macro"),
    }
    if not tied:  # scikit-learn wants rows that sum to 1
        assert expected["auroc"] == pytest.approx(sk.roc_auc_score(labels, item.probabilities, multi_class="ovr"))
    compare(item, expected)


@given(seeds, st.booleans())
@settings(max_examples=15, deadline=None)
def test_multilabel(seed: int, tied: bool) -> None:
    item = multilabel(seed, tied=tied)
    labels, chosen = item.labels.astype(int), (item.probabilities > 0.5).astype(int)
    functions = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
    expected = {
        f"{average}_{name}": function(labels, chosen, average=average, zero_division=0)
        for average in ("macro", "micro")
        for name, function in functions.items()
    }
    tags = list(zip(labels.T, chosen.T, strict=True))
    expected |= {
        "macro_balanced_accuracy": np.mean([sk.balanced_accuracy_score(*pair) for pair in tags]),
        "macro_mcc": np.mean([sk.matthews_corrcoef(*pair) for pair in tags]),
        "micro_auroc": sk.roc_auc_score(labels, item.logits, average="micro"),
        "micro_average_precision": sk.average_precision_score(labels, item.logits, average="micro"),
        "exact_match": sk.accuracy_score(labels, chosen),
        "hamming_distance": sk.hamming_loss(labels, chosen),
        "macro_auroc": sk.roc_auc_score(labels, item.logits, average="macro"),
        "macro_average_precision": sk.average_precision_score(labels, item.logits, average="macro"),
    }
    compare(item, expected)


@given(seeds, st.booleans())
@settings(max_examples=15, deadline=None)
def test_regression(seed: int, tied: bool) -> None:
    item = regression(seed, tied=tied)
    expected = {
        "mae": sk.mean_absolute_error(item.labels, item.probabilities),
        "rmse": math.sqrt(sk.mean_squared_error(item.labels, item.probabilities)),
        "pearson": stats.pearsonr(item.labels, item.probabilities).statistic,
        "spearman": stats.spearmanr(item.labels, item.probabilities).statistic,
    }
    compare(item, expected)


def mosi(seed: int, *, tied: bool) -> TaskPredictions:
    """Labels in float32 from -3 to 3 in thirds, zeros among them, and halves among the predictions."""
    generator = np.random.default_rng(seed)
    labels = (generator.integers(-9, 10, 60) / 3).astype(np.float32)
    values = (labels + generator.normal(size=60)).astype(np.float32)
    values = np.round(values * 2) / 2 if tied else values
    return replace(predictions("regression", labels, values, values), convention="mosi")


def sims(seed: int, *, tied: bool) -> TaskPredictions:
    """Labels in float32 from -1 to 1 in fifths of 1, and predictions at the edges of classes."""
    generator = np.random.default_rng(seed)
    labels = (generator.integers(-5, 6, 60) / 5).astype(np.float32)
    values = (labels + generator.normal(size=60) / 2).astype(np.float32)
    values = np.round(values, 1) if tied else values
    return replace(predictions("regression", labels, values, values), convention="sims")


@given(seeds, st.booleans())
@settings(max_examples=15, deadline=None)
def test_mosi_and_mosei(seed: int, tied: bool) -> None:
    """Their papers' tables, from scikit-learn and numpy alone."""
    item = mosi(seed, tied=tied)
    found, labels, values = dict(metrics(item)), item.labels.astype(np.float32), item.probabilities
    for name, limit in (("acc5", 2), ("acc7", 3)):
        near = [np.round(np.clip(numbers, -limit, limit)) for numbers in (labels, values)]
        assert found[name] == pytest.approx(sk.accuracy_score(*near))
    some = labels != 0
    pairs = {"has0": (labels >= 0, values >= 0), "non0": (labels[some] > 0, values[some] > 0)}
    for name, pair in pairs.items():
        assert found[f"acc2_{name}"] == pytest.approx(sk.accuracy_score(*pair))
        assert found[f"f1_{name}"] == pytest.approx(sk.f1_score(*pair, average="weighted"))


@given(seeds, st.booleans())
@settings(max_examples=15, deadline=None)
def test_sims(seed: int, tied: bool) -> None:
    item = sims(seed, tied=tied)
    found, labels, values = dict(metrics(item)), *(np.clip(x, -1, 1) for x in (item.labels, item.probabilities))

    def classes(numbers: np.ndarray, edges: list[float]) -> list[int]:
        return [sum(np.float32(number) > np.float32(edge) for edge in edges) for number in numbers]

    for name, edges in (("acc2", [0]), ("acc3", [-0.1, 0.1]), ("acc5", [-0.7, -0.1, 0.1, 0.7])):
        assert found[name] == pytest.approx(sk.accuracy_score(classes(labels, edges), classes(values, edges)))
    assert found["f1"] == pytest.approx(sk.f1_score(labels > 0, values > 0, average="weighted"))
    assert found["clipped_mae"] == pytest.approx(sk.mean_absolute_error(labels, values))
    assert found["clipped_pearson"] == pytest.approx(stats.pearsonr(labels, values).statistic, abs=2e-6)


@pytest.mark.parametrize("make", [binary, multiclass, multilabel, regression, mosi, sims])
@pytest.mark.parametrize("tied", [False, True])
def test_the_bootstrap_s_short_way_is_the_same_number(make: object, tied: bool) -> None:
    """Of resamples with repeats too."""
    item = make(5, tied=tied)
    generator = np.random.default_rng(0)
    for index in (np.arange(len(item)), *(generator.integers(len(item), size=len(item)) for _ in range(3))):
        for name, value in metrics(item.subset(index)):
            assert statistic_of(item, name)(index) == pytest.approx(value, abs=2e-6, nan_ok=True), name


@pytest.mark.parametrize("make", [binary, multiclass, multilabel, regression, mosi, sims])
def test_sums_of_groups_give_the_same_number_and_an_error(make: object) -> None:
    """Of every metric that is a function of sums; its error is that of a jackknife over 40 groups, nearly."""
    item = make(5, tied=False)
    codes = np.arange(len(item)) % 40
    weights = np.bincount(np.random.default_rng(1).integers(40, size=40), minlength=40)
    index = np.concatenate([np.flatnonzero(codes == group) for group, count in enumerate(weights) for _ in range(count)])
    found = {name: statistic_of(item, name) for name, _ in metrics(item)}
    moments = {name: statistic for name, statistic in found.items() if isinstance(statistic, Moments)}
    assert set(found) - set(moments) <= {"auroc", "average_precision", "spearman"} | {
        f"{average}_{name}" for average in ("macro", "micro") for name in ("auroc", "average_precision")
    }
    for name, statistic in moments.items():
        sums = statistic.group_sums(codes, 40)
        values, errors = statistic.weighted(sums, np.stack([weights, np.ones(40, np.int64)]))
        assert values[0] == pytest.approx(statistic(index), abs=1e-9), name
        without = [statistic(np.flatnonzero(codes != group)) for group in range(40)]
        jackknife = np.sqrt(39 * np.var(without))
        assert errors[1] == pytest.approx(jackknife, rel=0.25), name
        assert statistic.bounds[0] <= values[0] <= statistic.bounds[1], name


@pytest.mark.parametrize("make", [binary, multiclass, multilabel])
@pytest.mark.parametrize("keep", [0, 1])
def test_the_short_way_is_undefined_where_the_long_one_is(make: object, keep: int) -> None:
    """Where all labels are of one class, and where all predictions are."""
    item = make(5, tied=False)
    labels = item.labels if item.labels.ndim == 1 else item.labels.max(axis=1)
    chosen = item.probabilities > 0.5 if item.probabilities.ndim == 1 else item.probabilities.argmax(axis=1)
    for index in (np.flatnonzero(labels == keep), np.flatnonzero(chosen == keep), np.array([3])):
        for name, value in metrics(item.subset(index)):
            assert statistic_of(item, name)(index) == pytest.approx(value, abs=2e-6, nan_ok=True), name


@given(seeds, st.integers(2, 40), st.integers(1, 10))
@settings(max_examples=60, deadline=None)
def test_ranking_equals_scikit_learn(seed: int, count: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    labels, scores = generator.integers(0, 2, count), generator.integers(0, levels, count) / 4
    labels[:2] = 0, 1
    ranking = Ranking(labels, scores)
    assert ranking.auroc() == pytest.approx(sk.roc_auc_score(labels, scores))
    assert ranking.average_precision() == pytest.approx(sk.average_precision_score(labels, scores))
    np.testing.assert_allclose(average_ranks(scores), stats.rankdata(scores))


def test_saturated_probabilities_still_rank() -> None:
    """In float32 the sigmoid of 20 and of 30 is the same 1; the logits tell them apart."""
    logits = np.array([20.0, 30.0, 25.0, 35.0], np.float32)
    item = predictions("binary", np.array([0, 1, 0, 1]), logits, sigmoid(logits).astype(np.float32))
    assert dict(metrics(item))["auroc"] == 1


def test_correlation_of_tiny_numbers_is_no_warning() -> None:
    item = regression(3, tied=False)
    small = predictions("regression", item.labels * 1e-9, item.logits, item.probabilities * 1e-9 + 1e-3)
    assert dict(metrics(small))["pearson"] == pytest.approx(dict(metrics(item))["pearson"], abs=1e-6)


def test_a_metric_of_another_kind_is_refused() -> None:
    for item, metric in ((binary(0, tied=False), "macro_auroc"), (multilabel(0, tied=False), "accuracy")):
        with pytest.raises(ConfigError, match=rf"task 't' is {item.kind} and has no '{metric}', only "):
            statistic_of(item, metric)
