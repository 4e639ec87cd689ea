"""Which layers of a model are gathered one at a time (FSDP)."""

import pytest
from torch import nn

from mmtrain.engine import sharding
from mmtrain.engine.sharding import units


class Layer(nn.Module):
    """A layer that holds a list of its own."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(2))


def model_of(**parts: nn.Module) -> nn.Module:
    model = nn.Module()
    for name, part in parts.items():
        model.add_module(name, part)
    return model


def test_units_are_the_outermost_layers_of_lists_that_are_called_and_large(monkeypatch: pytest.MonkeyPatch) -> None:
    class Called(Layer):
        def forward(self, values: object) -> object:
            return values

    small, large = nn.Linear(3, 3), nn.Linear(4, 4)  # 12 and 20 numbers
    outer = [Called(), Called()]
    model = model_of(
        lists=nn.ModuleList([small, large]),
        nested=nn.ModuleDict({"text": nn.ModuleList(outer)}),
        alone=nn.ModuleList([nn.Linear(9, 9)]),
        lists_of_lists=nn.ModuleList([nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5)]) for _ in range(2)]),
        recurrent=nn.ModuleList([nn.LSTM(9, 9), nn.LSTM(9, 9)]),
        other=nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9)),
    )
    monkeypatch.setattr(sharding, "SMALLEST_UNIT", 20)
    found = list(units(model))
    assert found[:3] == [large, *outer]
    assert [tuple(unit.weight.shape) for unit in found[3:]] == [(5, 5)] * 4


def test_layers_that_share_a_weight_with_another_part_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    tied = nn.Linear(4, 4)
    tied.weight = layers[1].weight
    monkeypatch.setattr(sharding, "SMALLEST_UNIT", 1)
    assert list(units(model_of(layers=layers, tied=tied))) == [layers[0]]
