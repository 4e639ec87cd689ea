"""Rows of three processes with slices that differ by one: padded on the way, trimmed and in order on arrival, and back."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmtrain.engine import companions
from mmtrain.engine.companions import GlobalCompanions

PARTS = [torch.arange(6.0).view(3, 2), 10 + torch.arange(4.0).view(2, 2), 20 + torch.arange(4.0).view(2, 2)]


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> GlobalCompanions:
    """The view of process 1 of 3; the others' loss is the sum of twice all rows."""

    def gather(padded: Tensor) -> Tensor:
        assert padded.shape[0] == 3
        others = [torch.cat([part, part.new_full((3 - len(part), 2), torch.nan)]) for part in PARTS]
        return torch.cat([others[0].to(padded), padded, others[2].to(padded)])

    monkeypatch.setattr(companions, "gather", gather)
    monkeypatch.setattr(companions, "sum_over_processes", lambda _, gradient: gradient + 2)
    accelerator: Any = SimpleNamespace(process_index=1, num_processes=3)
    return GlobalCompanions(accelerator, [3, 2, 2])


def test_rows_arrive_in_the_order_of_the_processes(second: GlobalCompanions) -> None:
    mine = PARTS[1].clone().requires_grad_()
    whole = second.gather(mine)
    assert torch.equal(whole, torch.cat(PARTS))
    assert torch.equal(whole[second.start : second.start + 2], mine)
    whole.square().sum().backward()
    assert torch.equal(mine.grad, 2 * PARTS[1] + 2)  # its own loss's gradient, and what the others say
    assert second.gather(PARTS[1].long()).dtype == torch.int64


def test_one_process_has_the_numerical_gradient() -> None:
    accelerator: Any = SimpleNamespace(process_index=0, num_processes=1)
    alone = GlobalCompanions(accelerator, [4])
    rows = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: alone.gather(x).sin(), rows)
