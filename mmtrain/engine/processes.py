"""What processes tell each other and no wrapper does for us: sums of losses and gradients, what the first one has."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, distributed, nn

Answer = TypeVar("Answer")


def from_first_process(look: Callable[[], Answer]) -> Answer:
    """What `look` finds in the first of the processes that train together, in all of them; the others do not look."""
    if not distributed.is_available() or not distributed.is_initialized():
        return look()
    answer = [look() if distributed.get_rank() == 0 else None]
    distributed.broadcast_object_list(answer)
    found = answer[0]
    assert found is not None
    return found


def sum_over_processes(accelerator: Accelerator, values: Tensor) -> Tensor:
    """The sum of every process's tensor, the same on each of them."""
    if accelerator.num_processes == 1:
        return values
    total: Tensor = accelerator.reduce(values, reduction="sum")
    return total


def global_losses(
    accelerator: Accelerator, parts: Sequence[Mapping[str, Tensor]], tasks: Sequence[str]
) -> dict[str, Tensor]:
    """Task -> mean loss over the global batch, of the micro-batches' `parts` of it on every process."""
    mine = torch.stack([torch.stack([part[task].detach() for task in tasks]) for part in parts]).sum(dim=0)  # [K]
    return dict(zip(tasks, sum_over_processes(accelerator, mine), strict=True))


def sum_in_place(accelerator: Accelerator, tensors: Iterable[Tensor]) -> None:
    """Replace every tensor by its sum over processes, in one message a type."""
    if accelerator.num_processes == 1:
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for alike in by_type.values():
        total = sum_over_processes(accelerator, torch.cat([tensor.flatten() for tensor in alike]))
        for tensor, part in zip(alike, torch.split(total, [each.numel() for each in alike]), strict=True):
            tensor.copy_(part.view_as(tensor))


def sum_gradients(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its sum over processes."""
    sum_in_place(accelerator, [parameter.grad for parameter in parameters if parameter.grad is not None])


def share_buffers(accelerator: Accelerator, model: nn.Module) -> None:
    """Give every process the first one's running statistics: a checkpoint keeps them, and DDP goes on with them."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            buffer.copy_(broadcast(buffer))
