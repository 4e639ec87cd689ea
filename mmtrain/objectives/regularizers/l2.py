"""L2 towards zero, as a term of the loss that the gradient sees."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mmtrain.errors import CheckpointError
from mmtrain.objectives.regularizers.penalty import NamedParameters, matrices
from mmtrain.section import Section


class L2Config(Section):
    """Half the sum of squared weights of all trainable matrices, times the strength."""

    name: Literal["l2"] = "l2"
    strength: float = Field(gt=0, description="The penalty's gradient is strength * W.")

    def build(self, named_parameters: NamedParameters) -> "L2":  # noqa: ARG002 - the table's one signature
        """The penalty; it needs nothing of the model."""
        return L2(strength=self.strength)


class L2:
    """strength / 2 * sum of W^2, over matrices only (see `matrices`)."""

    def __init__(self, *, strength: float) -> None:
        self.strength = strength

    def __call__(self, named_parameters: NamedParameters) -> Tensor:
        squares = [value.float().square().sum() for _, value in matrices(named_parameters)]
        return self.strength / 2 * torch.stack(squares).sum() if squares else torch.zeros(())

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if state:
            raise CheckpointError(f"penalty l2 keeps no state, the checkpoint has {len(state)} tensors for it")
