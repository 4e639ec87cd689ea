"""Weights of which each process holds a part (FSDP), recognized without the import of torch's part of it, which is slow."""

from typing import Any

from torch import Tensor, nn


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a part of every weight, so that all have to pass through the model equally often."""
    return hasattr(model, "unshard")


def put_back_parts(model: nn.Module) -> None:
    """Behind passes that no backward pass follows: let go of what was gathered, so that the next one gathers anew."""
    for module in model.modules():
        if is_sharded(module):
            gatherer: Any = module
            gatherer.reshard()


def is_part(tensor: Tensor) -> bool:
    """Whether each process holds some rows of it alone."""
    kind = type(tensor)  # asked first, of every weight in every step: what a tensor lacks is slow to be told
    return kind is not Tensor and kind is not nn.Parameter and hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """What this process holds of it, in the same memory; all of it where it is not cut up."""
    sharded: Any = tensor
    held: Tensor = sharded.to_local() if is_part(tensor) else tensor
    return held
