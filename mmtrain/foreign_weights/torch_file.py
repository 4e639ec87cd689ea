"""A foreign PyTorch checkpoint as named tensors; nothing that it holds besides is made into an object or run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtrain.errors import CheckpointError

# where training scripts put the state dict of a model
_PLACES = ("model_state", "model_state_dict", "state_dict", "model")


def read_torch_file(file: Path) -> dict[str, Tensor]:
    """The state dict of a file that torch.save wrote, itself or under one of the usual keys; memory-mapped where it can be.

    Errors: CheckpointError where there is no such file, it is no checkpoint, holds more than plain data, or has no tensors.
    """
    if not file.is_file():
        found = "is a folder; write the file" if file.is_dir() else "does not exist; write the path of a PyTorch checkpoint"
        raise CheckpointError(f"{file} {found}")
    state = _state_dict(_load(file))
    if state is None:
        raise CheckpointError(
            f"{file} holds no state dict: expected names with tensors, at the top or under {', '.join(_PLACES)}"
        )
    return state


def _load(file: Path) -> Any:
    """Plain data and tensors; mapped, unless the file is of the format that torch wrote before 1.6."""
    try:
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for files that are not its own
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named:
            raise CheckpointError(
                f"{file} holds more than tensors and plain numbers: '{named[1]}', which could run code. Nothing of it was "
                "loaded. If you trust it, save its weights alone where it was made: "
                "torch.save({'model_state': model.state_dict()}, file)"
            ) from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{file} is not a checkpoint that torch.save wrote ({reason})") from None


def _state_dict(loaded: Any) -> dict[str, Tensor] | None:
    """Names with tensors, wherever they are."""
    if not isinstance(loaded, Mapping):
        return None
    for candidate in (loaded, *(loaded.get(place) for place in _PLACES)):
        if not isinstance(candidate, Mapping) or not candidate:
            continue
        if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in candidate.items()):
            return dict(candidate)
    return None
