"""No clipping: the update sees the gradient as it is."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from mmtrain.section import Section


class NoClippingConfig(Section):
    """A gradient that is not finite is found nevertheless."""

    name: Literal["none"] = "none"

    def build(self) -> "NoClipping":
        return NoClipping()


class NoClipping:
    """Changes nothing."""

    def clip(self, gradients: Sequence[Tensor], *, norm: float) -> None:
        """See Clipping."""
