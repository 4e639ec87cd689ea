"""An optimizer's state that is of other parameter groups is refused in words."""

import pytest
import torch
from torch import nn

from mmtrain.engine.state import load_optimizer_state, optimizer_state
from mmtrain.errors import CheckpointError


def optimizer(**groups: int) -> torch.optim.Optimizer:
    """Groups of so many tensors."""
    return torch.optim.AdamW(
        [{"name": name, "params": [nn.Parameter(torch.ones(2)) for _ in range(count)]} for name, count in groups.items()]
    )


@pytest.mark.parametrize(
    ("here", "number", "words"),
    [
        ({"matrices": 2, "others": 3}, 1, "is 'matrices' of 3 tensors, and here it is 'matrices' of 2 tensors"),
        ({"matrices": 3}, 2, "is 'others' of 2 tensors, and here it is none"),
        ({"matrices": 3, "marks": 2}, 2, "is 'others' of 2 tensors, and here it is 'marks' of 2 tensors"),
        ({"matrices": 3, "others": 2, "text": 1}, 3, "is none, and here it is 'text' of 1 tensors"),
    ],
)
def test_groups_that_are_others_are_named(here: dict[str, int], number: int, words: str) -> None:
    saved = optimizer_state(optimizer(matrices=3, others=2))
    with pytest.raises(CheckpointError, match=f"its parameter group {number} {words}.*begin anew with --overwrite"):
        load_optimizer_state(optimizer(**here), *saved)
    load_optimizer_state(optimizer(matrices=3, others=2), *saved)
