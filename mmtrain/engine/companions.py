"""The samples of one forward pass on all processes, for losses that compare samples with each other."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather
from torch import Tensor

from mmtrain.engine.processes import sum_over_processes


class GlobalCompanions:
    """Rows of all processes, one process after the other. `sizes`: how many each has in this forward pass.

    The gradient that reaches a process's rows is the sum over processes, so that a loss of which every process computes its
    own rows has the gradient of the whole, once parameters' gradients are summed as those of any other loss.
    """

    def __init__(self, accelerator: Accelerator, sizes: Sequence[int]) -> None:
        self._accelerator, self._sizes = accelerator, tuple(sizes)
        self.start = sum(self._sizes[: accelerator.process_index])

    def gather(self, rows: Tensor) -> Tensor:
        """[b, ...] -> [B, ...], as Companions."""
        gathered: Tensor = _Gather.apply(rows, self)
        return gathered

    def collect(self, rows: Tensor) -> Tensor:
        """The forward half: slices differ by a sample, so they travel padded to the longest."""
        longest = max(self._sizes)
        padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
        whole = gather(padded)
        starts = range(0, longest * len(self._sizes), longest)
        return torch.cat([whole[start : start + size] for start, size in zip(starts, self._sizes, strict=True)])

    def give_back(self, gradient: Tensor) -> Tensor:
        """The backward half: what all processes' losses say of this one's rows."""
        end = list(accumulate(self._sizes))[self._accelerator.process_index]
        return sum_over_processes(self._accelerator, gradient.contiguous())[self.start : end]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor, companions: GlobalCompanions) -> Tensor:
        context.companions = companions
        return companions.collect(rows)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        companions: GlobalCompanions = context.companions
        return companions.give_back(gradient), None
