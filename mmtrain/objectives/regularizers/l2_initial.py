"""L2 towards the initial weights, so that fine-tuning does not wander far from what was pre-trained."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mmtrain.errors import CheckpointError
from mmtrain.objectives.regularizers.penalty import NamedParameters, matrices
from mmtrain.section import Section


class L2InitialConfig(Section):
    """Half the squared distance of all trainable matrices from where they began, times the strength."""

    name: Literal["l2_initial"] = "l2_initial"
    strength: float = Field(gt=0, description="The penalty's gradient is strength * (W - W0).")

    def build(self, named_parameters: NamedParameters) -> "L2Initial":
        """The penalty, with a copy of the weights as they are now: one more float32 of memory per trainable weight."""
        return L2Initial(strength=self.strength, initial=dict(matrices(named_parameters)))


class L2Initial:
    """strength / 2 * sum of (W - W0)^2, over matrices only (see `matrices`).

    `initial`: W0 by parameter name; copied. A resumed run loads it from the checkpoint, where it must be saved.
    Source: L2-SP, Li et al. 2018, "Explicit Inductive Bias for Transfer Learning", equation 2.
    """

    def __init__(self, *, strength: float, initial: Mapping[str, Tensor]) -> None:
        self.strength = strength
        self._initial = {name: value.detach().to(torch.float32, copy=True) for name, value in initial.items()}

    def __call__(self, named_parameters: NamedParameters) -> Tensor:
        squares = []
        for name, value in matrices(named_parameters):
            if name not in self._initial:
                raise ValueError(f"l2_initial has no initial weights of '{name}'; was it frozen or wrapped at the start?")
            if self._initial[name].device != value.device:
                self._initial[name] = self._initial[name].to(value.device)
            squares.append((value.float() - self._initial[name]).square().sum())
        return self.strength / 2 * torch.stack(squares).sum() if squares else torch.zeros(())

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._initial)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        expected = {name: tuple(value.shape) for name, value in self._initial.items()}
        found = {name: tuple(value.shape) for name, value in state.items()}
        if expected != found:
            name = sorted(expected.items() ^ found.items())[0][0]
            raise CheckpointError(
                f"penalty l2_initial: '{name}' is {expected.get(name, 'absent')} in the model and "
                f"{found.get(name, 'absent')} in the checkpoint. Resume with the model that the run began with"
            )
        self._initial = {
            name: value.detach().to(self._initial[name].device, torch.float32, copy=True) for name, value in state.items()
        }
