"""Averages of weights that can be checked in the head."""

import pytest
import torch
from torch import nn

from mmtrain.engine.averages.ema import EMAConfig
from mmtrain.engine.averages.swa import SWAConfig
from mmtrain.errors import CheckpointError


class One(nn.Module):
    """A weight, a running statistic, and two whole numbers, one of which no checkpoint keeps."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("place", torch.tensor([5]), persistent=False)

    def put(self, value):
        with torch.no_grad():
            self.weight.fill_(value)
        self.mean.fill_(10 * value)
        self.seen.fill_(int(value))


def averages(config, values, *, total):
    """The averaged weight behind each step; None before there is one."""
    model = One()
    average = config.build(model, total=total)
    found = []
    for finished, value in enumerate(values, 1):
        model.put(value)
        average.take(model, finished=finished)
        found.append(average.module.weight.item() if average.count else None)
    return found, average


def test_the_moving_average_goes_half_the_way_each_step():
    found, average = averages(EMAConfig(decay=0.5), [1.0, 2.0, 4.0], total=3)
    assert found == [1.0, 1.5, 2.75]
    assert average.module.mean.item() == 27.5
    assert average.module.seen.item() == 4  # whole numbers are copied: their mean would be none
    assert average.module.place.item() == 5
    assert average.count == 3


def test_a_large_decay_moves_little():
    found, _ = averages(EMAConfig(decay=0.75), [0.0, 4.0], total=3)
    assert found == [0.0, 1.0]


@pytest.mark.parametrize("start", [3, 0.5])
def test_the_plain_mean_is_of_the_steps_asked_for(start):
    found, average = averages(SWAConfig(start=start), [9.0, 9.0, 1.0, 2.0, 6.0, 7.0], total=6)
    assert found == [None, None, 1.0, 1.5, 3.0, 4.0]
    assert average.module.mean.item() == 40.0


def test_every_second_step_from_the_start_on():
    found, _ = averages(SWAConfig(start=2, every=2), [9.0, 1.0, 9.0, 2.0, 9.0, 6.0], total=6)
    assert found == [None, 1.0, 1.0, 1.5, 1.5, 3.0]


def test_a_share_of_nothing_begins_with_the_first_step():
    assert averages(SWAConfig(start=0.0, every=2), [1.0, 9.0, 3.0], total=3)[0] == [1.0, 1.0, 2.0]


def test_the_model_holds_the_average_inside_and_its_own_bits_behind():
    model = One()
    average = EMAConfig(decay=0.5).build(model, total=2)
    for finished, value in ((1, 0.1), (2, 0.3)):
        model.put(value)
        average.take(model, finished=finished)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with average.inside(model):
        assert model.weight.item() == pytest.approx(0.2)
        assert model.mean.item() == pytest.approx(2.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_average_goes_on_where_it_was_saved():
    _, first = averages(SWAConfig(start=1), [1.0, 2.0, 6.0], total=6)
    model = One()
    second = SWAConfig(start=1).build(model, total=6)
    second.load({name: value.clone() for name, value in first.tensors().items()}, count=first.count, origin="x")
    model.put(7.0)
    second.take(model, finished=4)
    assert second.module.weight.item() == 4.0
    with pytest.raises(CheckpointError, match="x is of another architecture"):
        second.load({"other": torch.zeros(1)}, count=1, origin="x")


def test_an_average_not_begun_is_saved_as_nothing():
    _, average = averages(SWAConfig(start=3), [1.0], total=6)
    assert average.tensors() == {}
    average.load({}, count=0, origin="x")
    assert average.count == 0
