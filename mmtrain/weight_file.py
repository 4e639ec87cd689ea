"""Files of weights into a module, for encoders and extractors alike; what a file holds is never run."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from mmtrain.errors import ConfigError


def read_weights(file: Path, *, key: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a state dict that torch saved, on the CPU. `key`: what messages begin with.

    Errors: ConfigError where there is no file, it cannot be read, or it holds anything else.
    """
    file = file.expanduser()
    if not file.is_file():
        raise ConfigError(f"{key}: there is no file {file}; write `random`, or a .safetensors or .pth file")
    try:
        if file.suffix == ".safetensors":
            tensors: dict[str, Tensor] = safetensors.torch.load_file(file)
            return tensors
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file makes these libraries raise anything, torch with unsafe advice
        raise ConfigError(
            f"{key}: {file} cannot be read as safetensors or as a state dict of torch ({type(error).__name__}); save "
            "`model.state_dict()` alone"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"{key}: {file} holds more than tensors by name; save `model.state_dict()` alone")
    return {str(name): value for name, value in found.items()}


def fill_weights(module: nn.Module, given: Mapping[str, Tensor], *, key: str, origin: str, of: str) -> None:
    """Fill all of `module`, `of` which these are the weights; `origin`: where they are from.

    Errors: ConfigError, with the first that differs, where they are not the module's tensors.
    """
    own = module.state_dict()
    # older files count no batches
    missing = {name for name in own.keys() - given.keys() if not name.endswith(".num_batches_tracked")}
    others = {name for name in own.keys() & given.keys() if own[name].shape != given[name].shape}
    faults = sorted(missing | others | (given.keys() - own.keys()))
    if faults:
        raise ConfigError(
            f"{key}: {origin} does not hold the weights of {of}: {len(faults)} tensors are missing, too many or of another "
            f"shape (first: {faults[0]})"
        )
    module.load_state_dict(given, strict=False)
