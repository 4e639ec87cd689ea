"""Task losses against numbers done by hand and against plain float64 loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.losses import BinaryConfig, HuberConfig, L1Config, MSEConfig, MulticlassConfig, MultilabelConfig
from mmtrain.objectives.losses.binary import BinaryLoss, binary_cross_entropy
from mmtrain.objectives.losses.multiclass import MulticlassLoss, multiclass_cross_entropy
from mmtrain.objectives.losses.multilabel import MultilabelLoss, multilabel_cross_entropy

BINARY = TaskSchema(kind="binary")
REGRESSION = TaskSchema(kind="regression")
ABC = TaskSchema(kind="multiclass", classes=("a", "b", "c"))
TAGS = TaskSchema(kind="multilabel", classes=("a", "b"))
logit = st.floats(-20, 20)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def one_binary(x: float, y: float, weight: float = 1.0, smoothing: float = 0.0) -> float:
    soft = y * (1 - smoothing) + smoothing / 2
    return -(weight * soft * log_sigmoid(x) + (1 - soft) * log_sigmoid(-x))


def close(found: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_even_odds_cost_log_2_in_every_classifier() -> None:
    zeros = torch.zeros(2)
    close(BinaryLoss().reported(zeros, torch.tensor([0.0, 1.0])), [math.log(2)] * 2)
    close(MulticlassLoss().reported(torch.zeros(2, 4), torch.tensor([0, 3])), [math.log(4)] * 2)
    close(MultilabelLoss().reported(torch.zeros(2, 3), torch.ones(2, 3)), [math.log(2)] * 2)


def test_odds_of_three_to_one() -> None:
    three = torch.tensor([math.log(3)] * 2, dtype=torch.float64)  # probability 3/4
    close(binary_cross_entropy(three, torch.tensor([1.0, 0.0])), [math.log(4 / 3), math.log(4)])
    logits = torch.tensor([[math.log(3), 0.0, 0.0]], dtype=torch.float64)  # probabilities 3/5, 1/5, 1/5
    close(multiclass_cross_entropy(logits, torch.tensor([1])), [math.log(5)])


@given(
    st.lists(st.tuples(logit, st.sampled_from([0.0, 1.0])), min_size=1, max_size=8), st.floats(0.1, 10), st.floats(0, 0.49)
)
@settings(max_examples=50, deadline=None)
def test_binary_equals_a_loop(rows: list[tuple[float, float]], weight: float, smoothing: float) -> None:
    logits, targets = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    loss = BinaryLoss(pos_weight=weight, label_smoothing=smoothing)
    close(loss.training(logits, targets), [one_binary(x, y, weight, smoothing) for x, y in rows])
    close(loss.reported(logits, targets), [one_binary(x, y) for x, y in rows])


@given(st.lists(st.tuples(logit, logit, logit, st.integers(0, 2)), min_size=1, max_size=8), st.floats(0, 0.49))
@settings(max_examples=50, deadline=None)
def test_multiclass_equals_a_loop(rows: list[tuple[float, float, float, int]], smoothing: float) -> None:
    weights = (0.5, 1.0, 3.0)
    expected = []
    for *scores, target in rows:
        top = max(scores)
        normalizer = top + math.log(sum(math.exp(score - top) for score in scores))
        soft = [smoothing / 3 + (1 - smoothing) * (c == target) for c in range(3)]
        expected.append(-sum(w * q * (score - normalizer) for w, q, score in zip(weights, soft, scores, strict=True)))
    logits = torch.tensor([row[:3] for row in rows], dtype=torch.float64)
    targets = torch.tensor([row[3] for row in rows])
    close(MulticlassLoss(class_weights=weights, label_smoothing=smoothing).training(logits, targets), expected)


def test_multilabel_is_the_mean_over_classes() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0]], dtype=torch.float64)
    targets = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    rows = list(zip(logits.tolist(), targets.tolist(), strict=True))
    plain = [sum(one_binary(x, y) for x, y in zip(*row, strict=True)) / 2 for row in rows]
    close(multilabel_cross_entropy(logits, targets), plain)
    weighted = [sum(one_binary(x, y, w, 0.2) for x, y, w in zip(*row, (4.0, 0.5), strict=True)) / 2 for row in rows]
    close(MultilabelLoss(pos_weights=(4.0, 0.5), label_smoothing=0.2).training(logits, targets), weighted)


def test_auto_weights_are_counted_from_training_labels() -> None:
    labels = np.array([1.0, 0, 0, 0])
    assert BinaryConfig(pos_weight="auto").build(labels, BINARY).pos_weight == 3
    weights = MulticlassConfig(class_weight="auto").build(np.array([0.0, 0, 1, 2]), ABC).class_weights
    assert weights == pytest.approx((4 / 6, 4 / 3, 4 / 3))
    tags = np.array([[1.0, 0], [0, 1], [0, 1], [0, 1]])
    assert MultilabelConfig(pos_weight="auto").build(tags, TAGS).pos_weights == pytest.approx((3, 1 / 3))
    assert MultilabelConfig(pos_weight=2).build(tags, TAGS).pos_weights == (2, 2)


def test_auto_pos_weight_gives_both_classes_the_same_total_weight() -> None:
    labels = torch.tensor([1.0, 0, 0, 0])
    losses = BinaryConfig(pos_weight="auto").build(labels.double().numpy(), BINARY).training(torch.zeros(4), labels)
    assert losses[0].item() == pytest.approx(losses[1:].sum().item())


def test_regression_standardizes_by_training_labels() -> None:
    loss = MSEConfig().build(np.array([10.0, 30.0]), REGRESSION)  # mean 20, deviation 10
    logits, targets = torch.tensor([0.0, 1.0]), torch.tensor([40.0, 25.0])
    close(loss.training(logits, targets), [4.0, 0.25])  # (0 - 2)^2, (1 - 0.5)^2
    close(loss.prediction(logits), [20.0, 30.0])
    raw = MSEConfig(standardize=False).build(np.array([10.0, 30.0]), REGRESSION)
    predicted = loss.prediction(logits)
    close(raw.training(predicted, targets), [400.0, 25.0])
    close(raw.reported(predicted, targets), [4.0, 0.25])  # the same report in whatever units the head works
    close(raw.prediction(predicted), [20.0, 30.0])


def test_absolute_and_huber_errors_minimize_their_own_and_report_squares() -> None:
    labels = np.array([-1.0, 1.0])  # mean 0, deviation 1
    logits, targets = torch.tensor([0.0, 0.0]), torch.tensor([0.5, -3.0])
    for config, minimized in ((L1Config(), [0.5, 3.0]), (HuberConfig(delta=1), [0.125, 2.5])):
        loss = config.build(labels, REGRESSION)
        close(loss.training(logits, targets), minimized)
        close(loss.reported(logits, targets), [0.25, 9.0])


def test_a_far_mean_does_not_cost_the_report_its_digits() -> None:
    labels = np.array([1e6 - 1, 1e6 + 1])
    loss = MSEConfig().build(labels, REGRESSION)
    assert loss.reported(torch.tensor([0.25]), torch.tensor([1e6])).item() == pytest.approx(0.0625)


def test_chance_is_the_entropy_or_the_variance() -> None:
    quarter = np.array([1.0, 0, 0, 0])
    entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert BinaryLoss().chance(quarter) == pytest.approx(entropy)
    assert BinaryLoss().chance(np.ones(3)) == 0
    assert MulticlassLoss().chance(np.array([0.0, 1, 2, 2])) == pytest.approx(0.5 * math.log(4) + 0.5 * math.log(2))
    assert MultilabelLoss().chance(np.stack([quarter, np.ones(4)], axis=1)) == pytest.approx(entropy / 2)
    assert MSEConfig().build(np.array([0.0, 4.0]), REGRESSION).chance(np.array([1.0, 3.0])) == pytest.approx(0.25)
    assert math.isnan(BinaryLoss().chance(np.empty(0)))
