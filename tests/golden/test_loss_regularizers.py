"""Penalties and R-Drop against numbers done by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import Parameter

from mmtrain.objectives.regularizers.l2 import L2
from mmtrain.objectives.regularizers.l2_initial import L2Initial
from mmtrain.objectives.regularizers.r_drop import symmetric_kl


def parameters() -> dict[str, Parameter]:
    return {
        "weight": Parameter(torch.tensor([[3.0, 4.0]])),
        "bias": Parameter(torch.tensor([100.0])),
        "frozen": Parameter(torch.tensor([[100.0]]), requires_grad=False),
    }


def test_l2_is_half_the_sum_of_squares_of_trainable_matrices() -> None:
    named = parameters()
    penalty = L2(strength=0.1)(named.items())
    assert penalty.item() == pytest.approx(0.1 / 2 * 25)
    penalty.backward()
    torch.testing.assert_close(named["weight"].grad, torch.tensor([[0.3, 0.4]]))  # strength * W
    assert named["bias"].grad is None
    assert named["frozen"].grad is None


def test_l2_initial_pulls_back_to_where_training_began() -> None:
    named = parameters()
    regularizer = L2Initial(strength=0.5, initial={"weight": named["weight"]})
    assert regularizer(named.items()).item() == 0
    with torch.no_grad():
        named["weight"] += torch.tensor([[1.0, -2.0]])
    penalty = regularizer(named.items())
    assert penalty.item() == pytest.approx(0.5 / 2 * 5)
    penalty.backward()
    torch.testing.assert_close(named["weight"].grad, torch.tensor([[0.5, -1.0]]))


def test_symmetric_kl_of_three_to_one_against_even() -> None:
    a, b = torch.tensor([math.log(3)]), torch.tensor([0.0])
    forth = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)
    back = 1 / 2 * math.log(2 / 3) + 1 / 2 * math.log(2)
    assert symmetric_kl("binary", a, b).item() == pytest.approx((forth + back) / 2)
    pair = torch.stack([a, torch.zeros(1)], dim=1)  # the same two distributions as a softmax of two logits
    assert symmetric_kl("multiclass", pair, torch.zeros(1, 2)).item() == pytest.approx((forth + back) / 2)
    tags = torch.stack([a, b], dim=1)  # first class differs, second does not: half of it
    assert symmetric_kl("multilabel", tags, torch.zeros(1, 2)).item() == pytest.approx((forth + back) / 4)
    assert symmetric_kl("regression", torch.tensor([1.0]), torch.tensor([4.0])).item() == 4.5  # 3^2 / 2


@given(st.integers(0, 2**31), st.floats(0.1, 8))
@settings(max_examples=30, deadline=None)
def test_symmetric_kl_equals_torch_distributions(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (scale * torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    p, q = Categorical(logits=a), Categorical(logits=b)
    expected = (kl_divergence(p, q) + kl_divergence(q, p)) / 2
    torch.testing.assert_close(symmetric_kl("multiclass", a, b), expected)
    assert (symmetric_kl("multiclass", a, b) >= 0).all()
    r, s = Bernoulli(logits=a), Bernoulli(logits=b)
    expected = ((kl_divergence(r, s) + kl_divergence(s, r)) / 2).mean(dim=1)
    torch.testing.assert_close(symmetric_kl("multilabel", a, b), expected)
