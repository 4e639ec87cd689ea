"""Poolings of two real rows and one that is not there, in numbers one can check by eye."""

import pytest
import torch

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.pooling import POOLINGS

VALUES = torch.tensor([[[7.0, 7.0], [1.0, -4.0], [3.0, -2.0]]])
MASK = torch.tensor([[False, True, True]])


@pytest.mark.parametrize(
    ("name", "expected"), [("mean", [2.0, -3.0]), ("max", [3.0, -2.0]), ("first", [1.0, -4.0])], ids=["mean", "max", "first"]
)
def test_pooling(name: str, expected: list[float]) -> None:
    kind = next(kind for kind in POOLINGS if kind.model_fields["name"].default == name)
    assert kind().build(dim=2)(MaskedSequence(VALUES, MASK)).tolist() == [expected]
