"""Process-wide switches of how torch computes: TensorFloat-32, and algorithms that give the same bits every time."""

import os

import torch

from mmtrain.errors import ConfigError

_NONE_THERE = "does not have a deterministic implementation"


def set_arithmetic(*, tf32: bool, deterministic: bool) -> None:
    """Before anything is computed on a GPU, whose libraries read some of this once.

    `tf32`: float32 matrix products, convolutions and recurrent layers on a GPU round their factors to 10 bits of mantissa.
    `deterministic` False leaves things as they are; true ones follow https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    # not through `fp32_precision`: torch's own `cudnn.flags`, which exporting goes through, refuses what that leaves behind
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        torch.use_deterministic_algorithms(True)


def refuse_nondeterminism(error: RuntimeError) -> None:
    """Errors: ConfigError where `error` says that an operation has no deterministic algorithm; else nothing happens."""
    if _NONE_THERE in str(error):
        operation = str(error).split(_NONE_THERE)[0].strip()
        raise ConfigError(
            f"training.deterministic: {operation} {_NONE_THERE} on this device; write false, or choose another component"
        ) from error
