"""Weights that are evaluated besides those that train: swapped in and out without a bit lost."""

import copy

import pytest
import torch
from torch import nn

from mmtrain.engine.evaluation_weights import evaluation_weights, load_trained_weights
from mmtrain.engine.optimizers.adamw import AdamWConfig
from mmtrain.engine.optimizers.schedule_free_adamw import ScheduleFreeAdamWConfig
from mmtrain.errors import CheckpointError


def trained(steps):
    """A model and a schedule-free optimizer that also moves a parameter of nobody's model."""
    pytest.importorskip("schedulefree")
    torch.manual_seed(0)
    model, other = nn.Linear(3, 3), nn.Parameter(torch.full((2,), 0.3))
    optimizer = ScheduleFreeAdamWConfig(lr=0.1).build(model, text=None)
    optimizer.add_param_group({"params": [other], "name": "other", "weight_decay": 0.0})
    values = [*model.parameters(), other]
    for _ in range(steps):
        for value in values:
            value.grad = torch.rand_like(value)
        optimizer.step()
    return optimizer, values


def bits(values):
    return [value.detach().clone() for value in values]


def same(one, other):
    return [torch.equal(*pair) for pair in zip(one, other, strict=True)]


def test_every_bit_comes_back_of_every_parameter():
    optimizer, values = trained(steps=5)
    before = bits(values)
    for _ in range(50):
        with evaluation_weights(optimizer) as kept:
            inside = bits(values)
    assert same(bits(values), before) == [True] * 3
    assert same(inside, before) == [False] * 3
    assert sorted(kept) == ["model.matrices/0", "model.others/0", "other/0"]
    optimizer.step()  # in training mode again, or it refuses


def test_a_checkpoint_made_inside_goes_on_with_the_same_bits():
    optimizer, values = trained(steps=5)
    with evaluation_weights(optimizer) as kept:
        saved, state = bits(values), copy.deepcopy(optimizer.state_dict())
        again, others = trained(steps=0)
        with torch.no_grad():
            for value, average in zip(others, saved, strict=True):
                value.copy_(average)
        again.load_state_dict(state)
        load_trained_weights(again, kept)
    assert same(bits(others), bits(values)) == [True] * 3
    for one, other in zip(values, others, strict=True):
        one.grad, other.grad = torch.ones_like(one), torch.ones_like(one)
    optimizer.step()
    again.step()
    assert same(bits(others), bits(values)) == [True] * 3


def test_other_optimizers_train_on_what_is_evaluated():
    optimizer = AdamWConfig().build(nn.Linear(2, 2), text=None)
    with evaluation_weights(optimizer) as kept:
        assert kept == {}
    load_trained_weights(optimizer, {})
    with pytest.raises(CheckpointError, match="the checkpoint has 1 weights to train on, this optimizer has 0"):
        load_trained_weights(optimizer, {"model.matrices/0": torch.zeros(2, 2)})
