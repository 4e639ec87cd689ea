"""Reading a file of weights into a backbone; what the file holds is never run."""

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from mmtrain.errors import ConfigError


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a state dict that torch saved, on the CPU.

    Errors: ConfigError where there is no file, it cannot be read, or it holds anything else.
    """
    if not file.is_file():
        raise ConfigError(f"weights: there is no file {file}; write `random`, or a .safetensors or .pth file")
    try:
        if file.suffix == ".safetensors":
            tensors: dict[str, Tensor] = safetensors.torch.load_file(file)
            return tensors
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file makes these libraries raise anything
        raise ConfigError(
            f"weights: {file} cannot be read as safetensors or as a state dict of torch ({type(error).__name__}); save "
            "`model.state_dict()` alone"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"weights: {file} holds more than tensors by name; save `model.state_dict()` alone")
    return {str(name): value for name, value in found.items()}


def load_weights(module: nn.Module, path: str, *, of: str, unused: Sequence[str]) -> None:
    """Fill all of `module`, `of` which these are the weights; submodules `unused` may be in the file and are not read.

    Errors: ConfigError, with the first that differs, where the file's tensors are not the module's.
    """
    file = Path(path).expanduser()
    given = {
        name: value
        for name, value in read_weights(file).items()
        if not name.startswith(tuple(f"{part}." for part in unused))
    }
    own = module.state_dict()
    # older files count no batches
    missing = {name for name in own.keys() - given.keys() if not name.endswith(".num_batches_tracked")}
    others = {name for name in own.keys() & given.keys() if own[name].shape != given[name].shape}
    faults = sorted(missing | others | (given.keys() - own.keys()))
    if faults:
        raise ConfigError(
            f"weights: {file} does not hold the weights of {of}: {len(faults)} tensors are missing, too many or of another "
            f"shape (first: {faults[0]})"
        )
    module.load_state_dict(given, strict=False)
