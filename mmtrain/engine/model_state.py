"""Weights into a model, or the first names and shapes that do not fit."""

from torch import nn

from mmtrain.engine.checkpoint import Tensors
from mmtrain.errors import CheckpointError


def load_model_state(model: nn.Module, tensors: Tensors, *, origin: str) -> None:
    """Copy weights in. Errors: CheckpointError with the first differing names and both shapes."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    problems = [f"{name}: the checkpoint has {found[name]}, the model {shape}" for name, shape in expected.items()
                if name in found and found[name] != shape]  # fmt: skip
    problems += [f"{name}: only in the model" for name in expected if name not in found]
    problems += [f"{name}: only in the checkpoint" for name in found if name not in expected]
    if problems:
        more = f"\n... and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(f"{origin} is of another architecture:\n" + "\n".join(problems[:5]) + more)
    model.load_state_dict(tensors)
