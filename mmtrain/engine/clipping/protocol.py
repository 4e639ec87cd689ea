"""What a clipping is: a bound on the gradient of a step, before the update."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Clipping(Protocol):
    """Changes gradients in place. It never sees one that is not finite: such a step has no update."""

    def clip(self, gradients: Sequence[Tensor], *, norm: float) -> None:
        """`gradients`: at least one, of any shapes, of the whole global batch; `norm`: of all of them as one vector."""
