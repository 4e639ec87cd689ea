"""Temperatures, thresholds, reliability, and how embeddings lie, against numbers done by hand or by another library."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score

from mmtrain.evaluation.calibration import TaskCalibration, best_cut, bound_notes, calibrated, calibrated_probabilities, fit
from mmtrain.evaluation.geometry import geometry_statistic, pair_distances, potentials
from mmtrain.evaluation.metrics import predicted_classes
from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.evaluation.reliability import calibration, reliability

seeds = st.integers(0, 2**31)


def predictions(kind, labels, logits):
    logits = np.asarray(logits, np.float64)
    count = len(logits)
    exponents = np.exp(logits - (logits.max(axis=1, keepdims=True) if kind == "multiclass" else 0))
    shares = exponents / exponents.sum(axis=1, keepdims=True) if kind == "multiclass" else 1 / (1 + np.exp(-logits))
    return TaskPredictions(
        task="mood",
        kind=kind,
        classes=tuple("abc"[: logits.shape[1]]) if logits.ndim == 2 else (),
        ids=np.arange(count).astype(np.str_),
        streams=np.full(count, "clips"),
        groups=np.full(count, "g"),
        labels=np.asarray(labels, np.float64),
        logits=logits,
        probabilities=shares,
        losses=np.zeros(count),
    )


def test_a_temperature_by_hand():
    """Logit 2 is right in 3 of 4 cases, and so is -2: the likelihood is best where sigmoid(2 / T) = 3 / 4, T = 2 / ln 3."""
    labels, logits = [1, 1, 1, 0, 0, 0, 0, 1], [2.0] * 4 + [-2.0] * 4
    assert fit(predictions("binary", labels, logits)).temperature == pytest.approx(2 / math.log(3), rel=1e-5)
    tags = predictions("multilabel", np.reshape(labels, (4, 2)), np.reshape(logits, (4, 2)))
    assert fit(tags).temperature == pytest.approx(2 / math.log(3), rel=1e-5)


def test_a_temperature_at_an_end_is_said():
    """Logits that are right in half of all cases want an infinite one; those that never err, 0."""
    kinds = {"none": [1, 0, 1, 0], "all": [1, 1, 0, 0], "some": [1, 1, 0, 1]}
    found = {task: fit(predictions("binary", labels, [0.2, 0.2, -0.2, -0.2])) for task, labels in kinds.items()}
    low, high = bound_notes(found)
    assert low.startswith("none: the temperature is 20, the highest tried: logits tell little")
    assert high.startswith("all: the temperature is 0.05, the lowest tried: hardly a validation sample is on the wrong side")


def test_a_temperature_of_classes_by_hand():
    """Class a is ahead by 3 and right in 2 of 3 cases, else b: exp(3 / T) = 2 with c out of reach."""
    found = fit(predictions("multiclass", [0, 0, 1], [[3.0, 0.0, -1e3]] * 3))
    assert found.temperature == pytest.approx(3 / math.log(2), rel=1e-5)
    assert found.thresholds == {}


def test_a_temperature_has_bounds_and_needs_two_classes():
    assert fit(predictions("binary", [1, 0], [0.1, -0.1])).temperature == pytest.approx(0.05)
    assert fit(predictions("binary", [0, 1], [0.1, -0.1])).temperature == pytest.approx(20)
    assert fit(predictions("binary", [1, 1], [1.0, -1.0])).temperature is None
    with pytest.raises(ValueError, match="'mood' is a regression"):
        fit(replace(predictions("binary", [1, 0], [1.0, -1.0]), kind="regression"))


def test_thresholds_by_hand():
    """Of 0.2 0.4 0.6 0.9 the labels are 0 1 0 1. Calling the last three positive, F1 is 4 / 5; the last alone 2 / 3.
    Balanced accuracy is 3 / 4 for both, and 0.3 and 0.75 are 0.2 and 0.25 from 0.5."""
    item = predictions("binary", [0, 1, 0, 1], np.log([0.25, 2 / 3, 1.5, 9]))
    assert best_cut(item, "best_f1") == pytest.approx(0.3)
    assert best_cut(item, "best_balanced_accuracy") == pytest.approx(0.3)
    assert best_cut(predictions("binary", [0, 0, 1], np.log([0.25, 1.5, 9])), "best_balanced_accuracy") == pytest.approx(
        0.75
    )
    lower = predictions("binary", [0, 1, 0, 1], np.log([1 / 9, 2 / 3, 1.5, 4]))  # 0.25 is as good as 0.7
    assert best_cut(lower, "best_balanced_accuracy") == pytest.approx(0.7)
    assert best_cut(predictions("binary", [0, 1], [-3.0, 5.0]), "best_f1") == 0.5  # anything between them would do


@given(seeds, st.booleans())
@settings(max_examples=15, deadline=None)
def test_no_threshold_is_better(seed, has_tags):
    """Against scikit-learn at every threshold there is, after a temperature that moves the threshold with it."""
    generator = np.random.default_rng(seed)
    shape = (15, 3) if has_tags else (15,)
    labels = generator.integers(0, 2, shape)
    labels[0], labels[1] = 0, 1
    item = predictions("multilabel" if has_tags else "binary", labels, np.round(generator.normal(size=shape) + labels, 1))
    found = fit(item)
    functions = {
        "best_f1": lambda chosen: f1_score(labels, chosen, average="macro" if has_tags else "binary", zero_division=0),
        "best_balanced_accuracy": lambda chosen: np.mean(
            [balanced_accuracy_score(*pair) for pair in zip(np.atleast_2d(labels.T), np.atleast_2d(chosen.T), strict=True)]
        ),
    }
    cuts = np.unique(item.probabilities)[:-1]
    for rule, function in functions.items():
        decided = calibrated(item, found, rule)
        chosen = predicted_classes(decided).numpy()
        assert function(chosen) >= max(function((item.probabilities > cut).astype(int)) for cut in cuts) - 1e-9
        assert (chosen == (calibrated_probabilities(decided) > found.thresholds[rule])).all()


def test_what_is_not_fitted_stays_as_it_is():
    item = predictions("binary", [1, 0], [1.0, -1.0])
    assert calibrated(item, None, "best_f1") is item
    found = calibrated(item, TaskCalibration(temperature=2.0, thresholds={"half": 0.5, "best_f1": 0.3}), "half")
    assert (found.temperature, found.threshold) == (2.0, 0.5)
    assert found.probabilities is item.probabilities


def test_reliability_by_hand():
    """0.9 is right in one of two, 0.22 in none of two: ECE = (|0.5 - 0.9| + |0 - 0.22|) / 2 = 0.31."""
    item = predictions("binary", [1, 0, 0, 0], np.log([9, 9, 0.22 / 0.78, 0.22 / 0.78]))
    found = reliability(item)
    assert found.ece == pytest.approx(0.31)
    assert found.brier == pytest.approx((0.01 + 0.81 + 2 * 0.22**2) / 4)
    assert found.brier == pytest.approx(brier_score_loss(item.labels, item.probabilities))
    assert {number: entry.count for number, entry in enumerate(found.bins) if entry.count} == {3: 2, 13: 2}
    assert (found.bins[3].low, found.bins[3].high, found.bins[13].share_positive) == pytest.approx((3 / 15, 4 / 15, 0.5))
    assert math.isnan(found.bins[0].mean_probability)
    assert len(found.bins) == 15


def test_reliability_of_classes_by_hand():
    """Of 0.8 0.2 0 and 0.6 0.4 0 the first is right and the second not: Brier (0.04 + 0.04 + 0.36 + 0.36) / 2."""
    found = reliability(predictions("multiclass", [0, 1], np.log([[0.8, 0.2, 1e-30], [0.6, 0.4, 1e-30]])))
    assert found.brier == pytest.approx(0.4)
    assert found.ece == pytest.approx((0.2 + 0.6) / 2)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_the_error_is_that_of_the_bins(seed):
    generator = np.random.default_rng(seed)
    item = predictions("binary", generator.integers(0, 2, 200), generator.normal(size=200) * 20)  # many next to 0 and 1
    found = calibration(replace(item, temperature=1.3))
    for part in (found.before, found.after):
        bins = [entry for entry in part.bins if entry.count]
        assert sum(entry.count for entry in bins) == 200
        gaps = [entry.count / 200 * abs(entry.share_positive - entry.mean_probability) for entry in bins]
        assert part.ece == pytest.approx(sum(gaps), abs=1e-6)
    assert calibration(item).after is None


def test_a_temperature_helps_who_is_too_sure():
    generator = np.random.default_rng(0)
    item = predictions("binary", generator.integers(0, 2, 300), generator.normal(size=300) * 3)
    found = calibration(calibrated(item, fit(item), "half"))
    assert found.after.brier < found.before.brier
    assert found.after.ece < found.before.ece


def test_alignment_and_uniformity_by_hand():
    """Texts at 0 and 90 degrees, sounds at 0 and 180: distances 0 and 2; texts are 2 apart, sounds 4, squared."""
    embeddings = {
        "text": np.array([[1.0, 0], [0, 1], [np.nan, np.nan]]),
        "audio": np.array([[1.0, 0], [-1, 0], [np.nan, np.nan]]),
    }
    distances, kernels = pair_distances(embeddings, [("text", "audio")]), potentials(embeddings, chunk=1)

    def value(metric, index=(0, 1, 2)):
        return geometry_statistic(metric, distances, kernels)(np.array(index))

    assert value("text_audio_alignment") == value("alignment") == pytest.approx(1)
    assert value("text_uniformity") == pytest.approx(-4)
    assert value("audio_uniformity") == pytest.approx(-8)
    assert value("uniformity") == pytest.approx(-6)
    assert math.isnan(value("alignment", [2]))
    assert math.isnan(value("uniformity", [2]))
