"""How long the gradient of a step is: of each of the optimizer's groups and in all, before anything clips it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from mmtrain.sharded import is_part, local


@dataclass(frozen=True)
class GradientNorms:
    """Euclidean norms; NaN or Inf where a gradient holds one, or where a tensor's own norm overflows its type."""

    groups: Mapping[str, float]  # by the name of each parameter group of the optimizer; 0 where nothing in it learns now

    @property
    def total(self) -> float:
        """Of all groups as one vector: the root of the sum of their squares."""
        return math.hypot(*self.groups.values())


def gradients_of(groups: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """The gradients there are in an optimizer's `param_groups`, group by group; of weights in parts, what is held here."""
    return [local(parameter.grad) for group in groups for parameter in group["params"] if parameter.grad is not None]


def gradient_norms(groups: Sequence[Mapping[str, Any]]) -> GradientNorms:
    """The norms of the gradients in an optimizer's `param_groups`, which must be unscaled and of the whole global batch.

    One pass over the gradients, and one copy from the device: a number a tensor, added up in float64. Where each process
    holds a part of a parameter (FSDP), the squares of these numbers are summed over processes before that.
    """
    gradients = gradients_of(groups)
    found = torch.stack(torch._foreach_norm(gradients)) if gradients else torch.zeros(0)
    in_parts = [is_part(parameter) for group in groups for parameter in group["params"] if parameter.grad is not None]
    norms = iter((_over_processes(found, in_parts) if any(in_parts) else found).tolist())
    return GradientNorms(
        {
            str(group["name"]): math.hypot(*(next(norms) for parameter in group["params"] if parameter.grad is not None))
            for group in groups
        }
    )


def _over_processes(norms: Tensor, in_parts: Sequence[bool]) -> Tensor:
    """Norms [P] of whole gradients, of what each process holds of them; those that are not in parts stay as they are."""
    squares = norms.double().square()
    distributed.all_reduce(squares)
    return torch.where(torch.tensor(in_parts, device=norms.device), squares.sqrt(), norms.double())
