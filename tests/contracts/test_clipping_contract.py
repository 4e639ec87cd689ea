"""Every clipping: in place, never a longer gradient, never another sign; tests/runs/test_gradients.py has its steps."""

import math
from typing import Any

import pytest
import torch

from mmtrain.engine.clipping import CLIPPINGS

ROWS = pytest.mark.parametrize("row", CLIPPINGS, ids=lambda row: row.model_fields["name"].default)


@ROWS
def test_a_gradient_within_every_bound_stays_as_it_is(row: Any) -> None:
    gradients = [torch.tensor([0.1, -0.2]), torch.tensor(0.3), torch.zeros(0)]
    before = [gradient.clone() for gradient in gradients]
    row().build().clip(gradients, norm=math.hypot(0.1, 0.2, 0.3))
    assert all(torch.equal(now, then) for now, then in zip(gradients, before, strict=True))


@ROWS
@pytest.mark.parametrize("size", [1.5, 1e3, 1e18])
def test_it_works_in_place_keeps_signs_and_never_lengthens(row: Any, size: float) -> None:
    gradients = [torch.tensor([1.0, -2.0, 0.0]) * size, torch.tensor([[3.0]]) * size]
    before, places = [gradient.clone() for gradient in gradients], [gradient.data_ptr() for gradient in gradients]
    row().build().clip(gradients, norm=math.sqrt(14) * size)
    assert [gradient.data_ptr() for gradient in gradients] == places
    for now, then in zip(gradients, before, strict=True):
        assert torch.equal(now.sign(), then.sign())
        assert (now.abs() <= then.abs()).all()
