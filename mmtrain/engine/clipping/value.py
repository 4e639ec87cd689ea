"""Clipping by value: every number of the gradient on its own, so that the direction may turn."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mmtrain.section import Section


class ValueClippingConfig(Section):
    """Each number of the gradient is kept between -max_value and max_value (Mikolov, 2012, section 3.2.2)."""

    name: Literal["value"] = "value"
    max_value: float = Field(default=1.0, gt=0, description="Largest absolute value of any number in the gradient.")

    def build(self) -> "ValueClipping":
        return ValueClipping(max_value=self.max_value)


class ValueClipping:
    """min(max(g, -max_value), max_value), number by number."""

    def __init__(self, *, max_value: float) -> None:
        self.max_value = max_value

    def clip(self, gradients: Sequence[Tensor], *, norm: float) -> None:  # noqa: ARG002 - as of the others
        """See Clipping."""
        torch._foreach_clamp_min_(list(gradients), -self.max_value)
        torch._foreach_clamp_max_(list(gradients), self.max_value)
