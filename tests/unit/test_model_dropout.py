"""Dropout by 16 random bits a number: shares, scale and gradient, and where it takes the place of torch's own."""

import pytest
import torch
from torch import nn

from mmtrain.models.block import MultiHeadAttention
from mmtrain.models.dropout import Dropout, dropout, replace_dropouts


@pytest.mark.parametrize(("p", "scale"), [(0.5, 2.0), (0.25, 4 / 3), (0.75, 4.0)])
def test_a_number_is_dropped_or_divided_by_what_is_kept(p: float, scale: float) -> None:
    torch.manual_seed(0)
    kept = dropout(torch.full((100_000,), 3.0), p, training=True)
    assert {round(value, 4) for value in kept.unique().tolist()} == {0.0, round(3 * scale, 4)}
    lanes = (kept == 0).float().view(-1, 4).mean(dim=0)  # four numbers are of one draw
    torch.testing.assert_close(lanes, torch.full((4,), p), atol=0.015, rtol=0)


def test_numbers_of_one_draw_know_nothing_of_each_other() -> None:
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(200_000), 0.5, training=True) == 0).float().view(-1, 4)
    together = torch.corrcoef(dropped.T) - torch.eye(4)
    assert together.abs().max() < 0.015  # 50,000 draws: 0.0045 is one standard error


def test_p_is_rounded_and_the_mean_kept() -> None:
    value = dropout(torch.ones(64, dtype=torch.float64), 0.1, training=True).max().item()
    assert value == 65536 / (65536 - 6554)  # 0.1 of 65536 is 6553.6


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 6), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gradient_is_dropped_where_the_value_was(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    ones = torch.ones(shape, dtype=dtype, requires_grad=True)
    found = dropout(ones, 0.5, training=True)
    found.sum().backward()
    assert found.shape == ones.shape
    assert found.dtype == dtype
    assert torch.equal(ones.grad, found.detach())


def test_the_gradient_is_the_numerical_one() -> None:
    def drawn_alike(values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return dropout(values, 0.3, training=True).sin()

    values = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert not drawn_alike(values).all()
    assert torch.autograd.gradcheck(drawn_alike, values)


def test_it_is_drawn_from_torchs_generator() -> None:
    values = torch.ones(1000)
    torch.manual_seed(3)
    once, again = dropout(values, 0.5, training=True), dropout(values, 0.5, training=True)
    torch.manual_seed(3)
    assert torch.equal(dropout(values, 0.5, training=True), once)
    assert not torch.equal(once, again)


def test_nothing_is_dropped_in_evaluation_or_at_zero_and_all_at_one() -> None:
    values = torch.randn(1000)
    assert torch.equal(dropout(values, 0.5, training=False), values)
    assert torch.equal(dropout(values, 0.0, training=True), values)
    assert not dropout(values, 1.0, training=True).any()
    module = Dropout(0.5)
    assert not torch.equal(module(values), values)
    assert torch.equal(module.eval()(values), values)


def test_torchs_own_are_replaced_wherever_they_stand() -> None:
    model = nn.Sequential(nn.Dropout(0.3), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2).eval()), nn.Dropout2d(0.1))
    replace_dropouts(model)
    found = [(part.p, part.training) for part in model.modules() if isinstance(part, Dropout)]
    assert found == [(0.3, True), (0.2, False)]
    assert type(model[2]) is nn.Dropout2d


def test_attention_with_dropout_is_attention_where_none_falls() -> None:
    """Two ways to one number: in training on a CPU by products of our own, in evaluation by torch's kernel."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(dim=8, heads=2, dropout=1e-14).double()
    queries, context = torch.randn(2, 3, 8, dtype=torch.float64), torch.randn(2, 5, 8, dtype=torch.float64)
    mask = torch.tensor([[True, True, False, True, False], [False] * 5])
    bias = torch.randn(2, 3, 5, dtype=torch.float64)
    for added in (None, bias):
        expected = attention.eval()(queries, context, mask, added)
        torch.testing.assert_close(attention.train()(queries, context, mask, added), expected, rtol=0, atol=1e-12)
