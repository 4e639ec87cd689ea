"""Whole tensors to the parts of them that processes hold, and back."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmtrain.engine.checkpoint import Tensors
from mmtrain.sharded import is_part


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """Cut up as `like` is, whose shape it has; as it is where `like` is whole. No process asks another."""
    if not is_part(like):
        return whole
    from torch.distributed.tensor import distribute_tensor  # slow to import

    cut: Any = like
    whole = whole.to(cut.to_local().device)
    found: Tensor = distribute_tensor(whole, cut.device_mesh, cut.placements, src_data_rank=None)
    return found.clone()  # it lies in the memory of the whole, which would stay as long as it does


def parts_of(tensors: Tensors, like: Mapping[str, Tensor]) -> Tensors:
    """Each cut up as that of the same name in `like`, where there is one."""
    return {name: part_of(value, like[name]) if name in like else value for name, value in tensors.items()}


def gathered(tensors: Tensors, *, keeps: bool) -> Tensors:
    """Whole tensors, one after the other; every process takes part, and has none in the end where it does not keep them.

    Gathered ones are moved to the CPU; what was whole stays where it is.
    """
    found = {}
    for name, tensor in tensors.items():
        value: Any = tensor
        whole = value.full_tensor() if is_part(tensor) else tensor
        if keeps:
            found[name] = whole.cpu() if is_part(tensor) else whole
    return found


def joined(held: Tensor, like: Tensor | None) -> Tensor:
    """What this process holds as its part of a tensor with the shape of `like`."""
    if like is None or not is_part(like):
        return held
    from torch.distributed.tensor import DTensor  # slow to import

    cut: Any = like
    return DTensor.from_local(held, cut.device_mesh, cut.placements, run_check=False, shape=cut.shape, stride=cut.stride())
