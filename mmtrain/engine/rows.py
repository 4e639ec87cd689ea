"""What the tasks share, as the place where their gradients are compared: the joint vectors, or the shared parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmtrain.engine.passes import Forwarded, Passes
from mmtrain.engine.processes import sum_gradients, sum_over_processes
from mmtrain.engine.run import Run

Found = Sequence[Sequence[Tensor | None]]  # task by task, the gradients with respect to the sources; None: not reached


def head_parameters(run: Run, task: str) -> list[nn.Parameter]:
    """What only this task trains."""
    return [parameter for parameter in run.heads[task].parameters() if parameter.requires_grad]


def shared_parameters(run: Run, step: int) -> list[nn.Parameter]:
    """What trains outside the heads in the step after `step` finished ones."""
    others = {id(parameter) for head in run.heads.values() for parameter in head.parameters()}
    if run.unfreezing is not None:
        others |= {id(parameter) for parameter in run.unfreezing.still(step)}
    return [parameter for parameter in run.model.parameters() if parameter.requires_grad and id(parameter) not in others]


class RepresentationRows:
    """Gradients with respect to the joint vectors [B, J] of the global batch, in the plan's order.

    Process r of W holds the samples r, r + W, ... of the B; with two views there are 2B rows, one view after the other.
    The combined gradient then goes once through the trunk.
    """

    def __init__(self, run: Run, shared: Sequence[nn.Parameter]) -> None:
        self._run, self._shared = run, shared
        self._parts: list[Tensor] = []  # a micro-batch's [K, V, b, J] each, V the views
        self._mine = slice(run.accelerator.process_index, None, run.accelerator.num_processes)

    def sources(self, seen: Forwarded) -> list[Tensor]:
        """What to differentiate this micro-batch's losses by."""
        return [seen.joint]

    def add(self, seen: Forwarded, found: Found) -> None:
        """A micro-batch's gradients."""
        width = torch.promote_types(seen.joint.dtype, torch.float32)
        rows = [torch.zeros_like(seen.joint) if gradient is None else gradient for (gradient,) in found]
        stacked = torch.stack(rows).to(width)  # [K, V b, J]
        self._parts.append(stacked.view(len(rows), self._run.objective.num_views, -1, stacked.shape[2]))

    def matrix(self) -> Tensor:
        """[K, V B J], of the global batch."""
        mine = torch.cat(self._parts, dim=2)
        tasks, views, _, dim = mine.shape
        if self._run.accelerator.num_processes == 1:
            return mine.flatten(1)
        whole = mine.new_zeros(tasks, views, self._run.settings.batch_size, dim)
        whole[:, :, self._mine] = mine
        return sum_over_processes(self._run.accelerator, whole).flatten(1)

    def spread(self, gradient: Tensor, passes: Passes) -> None:
        """Put the gradient [V B J] through the trunk, and sum over processes what arrives."""
        views, dim = self._parts[0].shape[1], self._parts[0].shape[3]
        mine = gradient.view(views, -1, dim)[:, self._mine]
        sizes = [part.shape[2] for part in self._parts]
        for seen, part in zip(passes.second(), torch.split(mine, sizes, dim=1), strict=True):
            torch.autograd.backward(seen.joint, part.flatten(0, 1).to(seen.joint.dtype))
        sum_gradients(self._run.accelerator, self._shared)


class ParameterRows:
    """Gradients with respect to the shared parameters, laid end to end: a backward pass through the model for each task."""

    def __init__(self, run: Run, shared: Sequence[nn.Parameter]) -> None:
        self._accelerator, self._shared = run.accelerator, shared
        self._sizes = [parameter.numel() for parameter in shared]
        self._reached = [False] * len(shared)
        self._matrix: Tensor | None = None

    def sources(self, seen: Forwarded) -> Sequence[nn.Parameter]:  # noqa: ARG002 - as RepresentationRows
        """What to differentiate by: the same for every micro-batch."""
        return self._shared

    def add(self, seen: Forwarded, found: Found) -> None:  # noqa: ARG002
        """A micro-batch's gradients."""
        if self._matrix is None:
            width = torch.promote_types(self._shared[0].dtype, torch.float32)
            self._matrix = torch.zeros(len(found), sum(self._sizes), dtype=width, device=self._shared[0].device)
        for row, gradients in zip(self._matrix, found, strict=True):
            for number, (place, gradient) in enumerate(zip(torch.split(row, self._sizes), gradients, strict=True)):
                if gradient is not None:
                    place.add_(gradient.flatten())
                    self._reached[number] = True

    def matrix(self) -> Tensor:
        """[K, P], of the global batch."""
        assert self._matrix is not None
        return sum_over_processes(self._accelerator, self._matrix)

    def spread(self, gradient: Tensor, passes: Passes) -> None:  # noqa: ARG002
        """Cut the gradient [P] up; what no task reaches keeps none, as in any other step."""
        parts = zip(self._shared, torch.split(gradient, self._sizes), self._reached, strict=True)
        for parameter, part, is_reached in parts:
            if is_reached:
                parameter.grad = part.view_as(parameter).to(parameter.dtype)
