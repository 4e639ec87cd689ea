"""Clipping by norm: the gradient keeps its direction and gets no longer than a bound."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mmtrain.section import Section


class NormClippingConfig(Section):
    """The gradient as one vector (Pascanu, Mikolov and Bengio, 2013, algorithm 1)."""

    name: Literal["norm"] = "norm"
    max_norm: float = Field(default=1.0, gt=0, description="Largest norm of the whole gradient.")

    def build(self) -> "NormClipping":
        return NormClipping(max_norm=self.max_norm)


class NormClipping:
    """Multiplies by min(1, max_norm / (norm + 1e-6)), as torch does."""

    def __init__(self, *, max_norm: float) -> None:
        self.max_norm = max_norm

    def clip(self, gradients: Sequence[Tensor], *, norm: float) -> None:
        """See Clipping."""
        factor = self.max_norm / (norm + 1e-6)
        if factor < 1:
            torch._foreach_mul_(list(gradients), factor)
