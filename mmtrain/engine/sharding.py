"""Weights in parts (FSDP): each process holds its rows of every weight, and gathers one unit of the model at a time."""

import re
import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import distributed, nn

from mmtrain.engine.averages.average import WeightAverage
from mmtrain.engine.checkpoint import Tensors
from mmtrain.engine.launch import keeps_units_whole
from mmtrain.engine.weight_parts import joined, part_of
from mmtrain.objectives.objective import Objective
from mmtrain.sharded import is_part, local

SMALLEST_UNIT = 100_000  # parameters; to gather less by itself takes more messages than it saves memory


def shard_run(model: nn.Module, average: WeightAverage | None, objective: Objective, *, device: torch.device) -> list[str]:
    """Leave this process its part of all that is as large as the weights; what to say of it."""
    num_units = shard(model, device=device, reshard=not keeps_units_whole())
    if average is not None:
        shard(average.module, device=device, reshard=True)
    shard_penalties(objective, model)
    return [f"each process holds its part of every weight (FSDP); {num_units} layers are gathered one at a time"]


def shard(model: nn.Module, *, device: torch.device, reshard: bool) -> int:
    """Cut every weight along its first axis over all processes, in place, as the first process has it; gives the units.

    Units (see `units`) are gathered for their own forward and backward passes, the rest throughout both; `reshard` False:
    units too. Scalars stay whole on every process. The model's parameters are other objects from here on.
    """
    from torch.distributed.device_mesh import init_device_mesh  # slow to import
    from torch.distributed.fsdp import fully_shard

    for parameter in model.parameters():
        first = parameter.detach().to(device).contiguous()
        distributed.broadcast(first, src=0)
        parameter.data.copy_(first)
    scalars = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    for parameter in scalars:
        parameter.data = parameter.data.to(device)
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    found = list(units(model))
    for unit in found:
        fully_shard(unit, mesh=mesh, reshard_after_forward=reshard, ignored_params=scalars)
    fully_shard(model, mesh=mesh, ignored_params=scalars)
    whole = re.escape(type(model).__name__)  # some of its outputs are views, into which nothing is written
    warnings.filterwarnings("ignore", message=rf"FSDP2-wrapped module \({whole}\) returned a view tensor")
    return len(found)


def units(model: nn.Module) -> Iterator[nn.Module]:
    """The layers that stand in lists of several (an encoder's layers, a fusion's blocks), outermost first.

    Small ones are none, nor such as share a weight with another part of the model.
    """
    places: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        places[id(parameter)] = places.get(id(parameter), 0) + 1
    yield from _units(model, places)


def _units(module: nn.Module, places: Mapping[int, int]) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(module, nn.ModuleList) and len(module) > 1 and _is_unit(child, places):
            yield child
        else:
            yield from _units(child, places)


def _is_unit(module: nn.Module, places: Mapping[int, int]) -> bool:
    if type(module).forward is nn.Module.forward or isinstance(module, nn.RNNBase):  # not called; its output is a view
        return False
    parameters = list(module.parameters())
    is_large = sum(parameter.numel() for parameter in parameters) >= SMALLEST_UNIT
    return is_large and all(places[id(parameter)] == 1 for parameter in parameters)


def mean_gradients_of_whole(model: nn.Module) -> None:
    """Give the scalars of a sharded model, which stay whole, the mean of the processes' gradients, as the parts have it."""
    for parameter in model.parameters():
        if parameter.grad is not None and not is_part(parameter):
            distributed.all_reduce(parameter.grad)
            parameter.grad /= distributed.get_world_size()


def shard_penalties(objective: Objective, model: nn.Module) -> None:
    """Leave penalties, in place, what they remember of the rows that this process holds."""
    parameters = dict(model.named_parameters())
    for group in objective.state_dict().values():
        for name, tensor in group.items():
            tensor.data = local(part_of(tensor, parameters[name])).to(tensor.device, copy=True)


def penalty_state(objective: Objective, model: nn.Module) -> Tensors:
    """What penalties remember of the weights, as <penalty>/<parameter>, cut up as these are."""
    parameters = dict(model.named_parameters())
    return {
        f"{name}/{key}": joined(value, parameters.get(key))
        for name, group in objective.state_dict().items()
        for key, value in group.items()
    }


def load_penalty_state(objective: Objective, tensors: Tensors, model: nn.Module) -> None:
    """The inverse of `penalty_state`, of whole tensors. Errors: CheckpointError where they are of other penalties."""
    parameters = dict(model.named_parameters())
    penalties: dict[str, Tensors] = {name: {} for name in objective.regularizers}
    for name, tensor in tensors.items():
        owner, _, key = name.partition("/")
        penalties.setdefault(owner, {})[key] = local(part_of(tensor, parameters.get(key, tensor)))
    objective.load_state_dict(penalties)
