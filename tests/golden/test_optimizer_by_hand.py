"""Learning-rate factors that can be checked in the head, and which parameters decay."""

import pytest
import torch
from torch import nn

from mmtrain.engine.optimizer import AdamWConfig, parameter_groups
from mmtrain.engine.schedule import LrScheduleConfig, factor_of


def test_warmup_reaches_the_peak_with_its_last_step_and_linear_ends_one_step_before_zero():
    factor = factor_of("linear", warmup=4, total=8)
    assert [factor(step) for step in range(8)] == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert factor(8) == 0.0


def test_cosine_is_one_half_in_the_middle_and_constant_stays():
    cosine = factor_of("cosine", warmup=0, total=10)
    assert cosine(0) == 1.0
    assert cosine(5) == pytest.approx(0.5)
    assert cosine(10) == pytest.approx(0.0)
    assert [factor_of("constant", warmup=2, total=5)(step) for step in range(5)] == [0.5, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("warmup", "expected"), [(0.5, 0.2), (5, 0.2), (0, 1.0), (1, 1.0)])
def test_warmup_is_a_share_below_one_and_steps_from_one_on(warmup, expected):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    LrScheduleConfig(warmup=warmup).build(optimizer, total=10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_a_warmup_of_two_and_a_half_steps_is_refused():
    with pytest.raises(ValueError, match=r"2\.5 is neither a share below 1 nor a whole number"):
        LrScheduleConfig(warmup=2.5)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.text = nn.ModuleDict({"table": nn.Embedding(5, 4), "layer": nn.Linear(4, 4)})
        self.norm, self.head, self.frozen = nn.LayerNorm(4), nn.Linear(4, 2), nn.Linear(4, 4)
        self.frozen.requires_grad_(False)


def test_only_matrices_decay_and_the_text_encoder_has_its_own_rate():
    model = Tiny()
    groups = {
        group["name"]: group for group in parameter_groups(model, text=model.text, lr=1.0, text_lr=0.1, weight_decay=0.3)
    }
    held = {name: {id(parameter) for parameter in group["params"]} for name, group in groups.items()}
    text, table = model.text["layer"], model.text["table"]
    assert held == {
        "text.matrices": {id(text.weight)},
        "text.others": {id(text.bias), id(table.weight)},  # an embedding is a matrix that does not decay
        "model.matrices": {id(model.head.weight)},
        "model.others": {id(model.head.bias), id(model.norm.weight), id(model.norm.bias)},
    }
    assert [(groups[name]["lr"], groups[name]["weight_decay"]) for name in held] == [
        (0.1, 0.0 if name.endswith("others") else 0.3)
        if name.startswith("text")
        else (1.0, 0.0 if name.endswith("others") else 0.3)
        for name in held
    ]


def test_one_adamw_step_by_hand():
    # the first bias-corrected step is lr times the sign of the gradient; decay takes lr x 0.5 x 2 besides
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = AdamWConfig(lr=0.1, weight_decay=0.5, eps=1e-12).build(model, text=None)
    model.weight.grad = torch.full((1, 1), 4.0)
    optimizer.step()
    assert model.weight.item() == pytest.approx(2.0 - 0.1 * 0.5 * 2.0 - 0.1, abs=1e-6)
