"""Weights into a model, or the first names and shapes that do not fit."""

from torch import nn

from mmtrain.engine.checkpoint import Tensors
from mmtrain.engine.weight_parts import parts_of
from mmtrain.errors import CheckpointError


def load_model_state(model: nn.Module, tensors: Tensors, *, origin: str) -> None:
    """Copy whole weights in, of a sharded model the parts that this process holds.

    Errors: CheckpointError with the first differing names and both shapes.
    """
    held = model.state_dict()
    expected = {name: tuple(value.shape) for name, value in held.items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    problems = [
        f"{name}: the checkpoint has {found[name]}, the model {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems += [f"{name}: only in the model" for name in expected if name not in found]
    problems += [f"{name}: only in the checkpoint" for name in found if name not in expected]
    if problems:
        more = f"\n... and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(f"{origin} is of another architecture:\n" + "\n".join(problems[:5]) + more)
    model.load_state_dict(parts_of(tensors, held))
