"""Metrics that a reader can count, and what comes out where a metric is undefined."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mmtrain.errors import DataError
from mmtrain.evaluation.conventions.classes import binned, rounded
from mmtrain.evaluation.metrics import loss_statistics, metrics, predicted_classes
from mmtrain.evaluation.predictions import TaskPredictions


def predictions(kind: str, labels: object, probabilities: object, *, logits: object = None) -> TaskPredictions:
    values = np.asarray(probabilities, np.float64)
    count = len(values)
    return TaskPredictions(
        task="mood",
        kind=kind,
        classes=tuple("abcdef"[: values.shape[1]]) if values.ndim == 2 else (),
        ids=np.array([f"s{number}" for number in range(count)], np.str_),
        streams=np.full(count, "clips"),
        groups=np.full(count, "g"),
        labels=np.asarray(labels, np.float64),
        logits=values if logits is None else np.asarray(logits, np.float64),
        probabilities=values,
        losses=np.zeros(count),
    )


def found(*args: object) -> dict[str, float]:
    return dict(metrics(predictions(*args)))


def nan_names(values: dict[str, float]) -> set[str]:
    return {name for name, value in values.items() if math.isnan(value)}


def test_five_clips() -> None:
    """Ranked 1 0 1 0 0: positives at ranks 1 and 3, one of them found at 0.5."""
    values = found("binary", [1, 0, 1, 0, 0], [0.9, 0.8, 0.4, 0.3, 0.1])
    assert values["accuracy"] == pytest.approx(3 / 5)
    assert values["precision"] == pytest.approx(1 / 2)
    assert values["recall"] == pytest.approx(1 / 2)
    assert values["f1"] == pytest.approx(1 / 2)
    assert values["macro_precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert values["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert values["mcc"] == pytest.approx((1 * 2 - 1 * 1) / math.sqrt(2 * 2 * 3 * 3))  # TP TN - FP FN
    assert values["auroc"] == pytest.approx(5 / 6)  # of 2 * 3 pairs one is the wrong way round
    assert values["average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_three_classes() -> None:
    values = found("multiclass", [0, 0, 1, 2], np.eye(3)[[0, 1, 1, 2]])
    assert values["accuracy"] == pytest.approx(3 / 4)
    assert values["macro_recall"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert values["balanced_accuracy"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    # N right - sum of labels times calls of a class: 12 - (2 1 + 1 2 + 1 1); N^2 less squares: 16 - 6, 16 - 6
    assert values["mcc"] == pytest.approx(7 / 10)
    assert values["macro_precision"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert values["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert values["auroc"] == pytest.approx((3 / 4 + 5 / 6 + 1) / 3)  # a tie counts half


def test_tags() -> None:
    values = found("multilabel", [[1, 0], [1, 1]], [[0.9, 0.8], [0.7, 0.9]])
    assert values["exact_match"] == pytest.approx(1 / 2)
    assert values["hamming_distance"] == pytest.approx(1 / 4)
    assert values["micro_f1"] == pytest.approx(6 / 7)  # 3 right, 1 too many
    assert values["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert (values["micro_precision"], values["micro_recall"]) == (pytest.approx(3 / 4), 1)
    assert (values["macro_precision"], values["macro_recall"]) == (pytest.approx((1 + 1 / 2) / 2), 1)
    assert values["macro_auroc"] == 1  # of the second class; the first has no negative
    assert values["micro_auroc"] == pytest.approx(2 / 3)  # 0.9, 0.9 above the negative's 0.8, 0.7 below
    assert values["macro_balanced_accuracy"] == pytest.approx(1 / 2)  # of the second class: all called positive
    assert values["macro_mcc"] == 0


def test_errors_and_correlations() -> None:
    values = found("regression", [1, 2, 3, 4], [1, 2, 3, 10])
    assert values["mae"] == pytest.approx(6 / 4)
    assert values["rmse"] == pytest.approx(3)
    assert values["spearman"] == pytest.approx(1)
    assert values["pearson"] == pytest.approx(14 / math.sqrt(5 * 50))


def test_classes_of_sentiment() -> None:
    """Labels at the edges, in float64 too, are in the class below; halves are rounded to the even number; -0.4 is 0."""
    edges = np.array([-0.7, -0.1, 0.0, 0.1, 0.7, 1.0])
    assert binned(edges, (-0.7, -0.1, 0.1, 0.7)).tolist() == [0, 1, 2, 2, 3, 4]
    assert binned(edges.astype(np.float32), (-0.7, -0.1, 0.1, 0.7)).tolist() == [0, 1, 2, 2, 3, 4]
    assert rounded(np.array([-9, -2.5, -0.5, -0.4, 0.5, 1.5, 2.5, 9]), 3).tolist() == [0, 1, 3, 3, 3, 5, 5, 6]
    item = replace(predictions("regression", [-1.5, 0.0, 2.0, 0.5], [-0.2, 0.3, 1.6, -0.1]), convention="mosi")
    values = dict(metrics(item))
    assert values["acc2_has0"] == pytest.approx(3 / 4)
    assert values["acc2_non0"] == pytest.approx(2 / 3)
    assert values["f1_non0"] == pytest.approx((1 * 2 / 3 + 2 * 2 / 3) / 3)  # of the negative 2 / (2 + 1), of the others too
    assert values["acc7"] == pytest.approx(3 / 4)  # -2 and 0, 0 and 0, 2 and 2, 0 and 0


def test_one_class_alone_leaves_rankings_undefined() -> None:
    macro = {"macro_precision", "macro_recall", "macro_f1", "balanced_accuracy", "mcc"}
    ranked = {"auroc", "average_precision"}
    negative = found("binary", [0, 0, 0], [0.1, 0.9, 0.2])
    assert nan_names(negative) == macro | ranked | {"recall", "f1"}
    assert negative["accuracy"] == pytest.approx(2 / 3)
    assert negative["precision"] == 0  # one was called positive, and is not
    assert nan_names(found("binary", [1, 1], [0.1, 0.9])) == macro | ranked
    assert nan_names(found("multiclass", [1, 1], np.eye(3)[[1, 0]])) == macro | ranked
    pooled = {"macro_auroc", "macro_average_precision", "macro_balanced_accuracy", "macro_mcc"}
    assert nan_names(found("multilabel", [[1, 0]], [[0.9, 0.1]])) == pooled
    nothing = found("multilabel", [[0, 0], [0, 0]], [[0.1, 0.1], [0.2, 0.1]])
    counted = {f"{average}_{name}" for average in ("macro", "micro") for name in ("precision", "recall", "f1")}
    assert nan_names(nothing) == pooled | counted | {"micro_auroc", "micro_average_precision"}


def test_constant_predictions() -> None:
    never = found("binary", [1, 0, 0], [0.2, 0.2, 0.2])
    assert nan_names(never) == {"precision"}
    assert never["mcc"] == 0
    assert never["auroc"] == 0.5
    assert never["average_precision"] == pytest.approx(1 / 3)
    assert nan_names(found("regression", [1, 2, 3], [2, 2, 2])) == {"pearson", "spearman"}
    assert nan_names(found("regression", [2, 2, 2], [1, 2, 3])) == {"pearson", "spearman"}
    assert nan_names(found("regression", [2], [1])) == {"pearson", "spearman"}


def test_a_class_that_no_label_has_is_in_macro_recall_and_not_in_balanced_accuracy() -> None:
    """Class c is called once, in the place of b."""
    values = found("multiclass", [0, 1, 1], np.eye(3)[[0, 1, 2]])
    assert values["macro_recall"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert values["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)


def test_a_threshold_of_the_calibrated_probability() -> None:
    """A temperature of 2 halves logits: 0.8 = sigmoid(ln 4) becomes 2 / 3, above a threshold of 0.6 alone."""
    logits = np.log([4.0, 1.5, 0.5])  # probabilities 0.8, 0.6, 1/3; calibrated 2/3, 0.55, 0.41
    item = predictions("binary", [1, 0, 1], [0.8, 0.6, 1 / 3], logits=logits)
    assert predicted_classes(item).tolist() == [1, 1, 0]
    assert predicted_classes(replace(item, temperature=2.0, threshold=0.6)).tolist() == [1, 0, 0]
    assert predicted_classes(replace(item, temperature=2.0, threshold=0.4)).tolist() == [1, 1, 1]
    assert replace(item, temperature=3.7).cut == 0.5


def test_a_class_that_is_absent_is_left_out_of_macro_averages() -> None:
    """Class c occurs neither in labels nor in predictions."""
    values = found("multiclass", [0, 1, 1], np.eye(3)[[0, 1, 0]])
    assert values["macro_recall"] == pytest.approx((1 + 1 / 2) / 2)
    assert values["auroc"] == pytest.approx((3 / 4 + 3 / 4) / 2)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_no_sample_is_all_nan(kind: str) -> None:
    outputs = (0, 3) if kind in ("multiclass", "multilabel") else (0,)
    values = found(kind, np.empty(outputs if kind == "multilabel" else 0), np.empty(outputs))
    assert values
    assert nan_names(values) == set(values)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_is_refused_by_name(bad: float) -> None:
    item = predictions("multiclass", [0, 1, 2], [[1, 0, 0], [bad, 0, 0], [bad, 0, 1]])
    with pytest.raises(DataError, match=r"task 'mood', sample 's1' of stream 'clips': .* NaN or Inf \(2 of 3 samples\)"):
        list(metrics(item))
    with pytest.raises(DataError, match="sample 's0'"):
        list(metrics(predictions("binary", [0, 1], [0.5, 0.5], logits=[bad, 0])))


def test_loss_statistics() -> None:
    values = dict(loss_statistics(np.array([1.0, 2, 3, 4, 5], np.float32)))
    assert values["loss"] == 3
    assert values["loss_std"] == pytest.approx(math.sqrt(2))
    assert values["loss_cv"] == pytest.approx(math.sqrt(2) / 3)
    assert values["loss_q05"] == pytest.approx(1.2)
    assert [values[f"loss_q{percent}"] for percent in (25, 50, 75, 95)] == pytest.approx([2, 3, 4, 4.8])
    assert all(math.isnan(value) for _, value in loss_statistics(np.empty(0)))
    assert math.isnan(dict(loss_statistics(np.zeros(3)))["loss_cv"])


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"labels are \(2,\), not \(3,\)"):
        predictions("binary", [0, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="labels are"):
        predictions("multilabel", [0, 1], [[0.1, 0.2], [0.3, 0.4]])
