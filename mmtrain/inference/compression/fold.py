"""Batch normalization with its running statistics, computed by the linear layer or convolution before it."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from mmtrain.engine.model_state import load_model_state
from mmtrain.errors import CheckpointError, ConfigError
from mmtrain.inference.compression.folded import Folded
from mmtrain.inference.compression.protocol import Applied, Layers, Tensors
from mmtrain.models.heads.norm import LabelledBatchNorm

# each normalizes the channels that the layer gives; batch norm of rows [B, D] is the same as LabelledBatchNorm there
_PAIRS = {
    nn.Linear: (LabelledBatchNorm, nn.BatchNorm1d),
    nn.Conv1d: (nn.BatchNorm1d,),
    nn.Conv2d: (nn.BatchNorm2d,),
    nn.Conv3d: (nn.BatchNorm3d,),
}


@dataclass(frozen=True)
class Fold:
    """In evaluation (W x + b - mean) / sqrt(variance + eps) * gamma + beta is another W x + b (Jacob et al. 2018, 3.2)."""

    name: str = "fold"
    precision: None = None
    is_integer: bool = False
    is_exact: bool = True

    def check(self) -> None:
        return

    def apply(self, model: nn.Module) -> Applied:
        """Errors: ConfigError for a model in training mode, and for one without a batch normalization that can be folded."""
        norms = {name: module for name, module in model.named_modules() if _is_norm(module)}
        if not norms:
            raise ConfigError("fold: there is no batch normalization in this model, so nothing to fold")
        if model.training or any(norm.training for norm in norms.values()):
            raise ConfigError(
                "fold: the model is in training mode, where batch normalization goes by the batch; call model.eval() first"
            )
        pairs: dict[str, str] = {}
        reasons = dict.fromkeys(norms, "no linear layer or convolution is right before it")
        for prefix, graph in _graphs(model):
            for node in graph.nodes:
                name = f"{prefix}{node.target}"
                if node.op == "call_module" and name in norms:
                    layer, reasons[name] = _before(model, node, prefix, graph)
                    pairs |= {name: layer} if layer else {}
        left = [f"{name} is left as it is: {reasons[name]}" for name in norms if name not in pairs]
        if not pairs:
            raise ConfigError(f"fold: no batch normalization of this model can be folded; {left[0]}")
        for norm, layer in pairs.items():
            _fuse(model, layer, norm)
        layers = tuple((layer, norm) for norm, layer in pairs.items())
        return Applied(layers, (f"{len(pairs)} batch normalizations are folded into the layers before them", *left))

    def stored(self, model: nn.Module, layers: Layers) -> Tensors:  # noqa: ARG002 - of every method
        found: Tensors = model.state_dict()
        return found

    def restore(self, model: nn.Module, tensors: Tensors, layers: Layers, *, origin: str) -> None:
        for names in layers:
            try:
                layer, norm = (model.get_submodule(name) for name in names)
            except (AttributeError, ValueError):
                raise CheckpointError(f"{origin}: this model has no {' and '.join(names)} to fold") from None
            if layer.bias is None:
                layer.bias = nn.Parameter(layer.weight.new_zeros(len(layer.weight)))
            model.set_submodule(names[1], _folded(layer, norm))
        load_model_state(model, dict(tensors), origin=origin)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_norm(m) or super().is_leaf_module(m, module_qualified_name)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm | LabelledBatchNorm)


def _graphs(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, fx.Graph]]:
    """What is computed by the largest modules that hold batch normalization and whose passes do not depend on the data."""
    if not any(_is_norm(below) for below in module.modules()) or _is_norm(module):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _Tracer().trace(module)
    except Exception:  # a trace runs the module's own code on placeholders, which may raise anything
        for name, child in module.named_children():
            yield from _graphs(child, f"{prefix}{name}.")
    else:
        yield prefix, graph


def _before(model: nn.Module, node: fx.Node, prefix: str, graph: fx.Graph) -> tuple[str | None, str]:
    """The layer that the batch normalization `node` can be folded into; None and why not."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or source.op != "call_module":
        return None, "no linear layer or convolution is right before it"
    layer, norm = model.get_submodule(f"{prefix}{source.target}"), model.get_submodule(f"{prefix}{node.target}")
    if type(norm) not in _PAIRS.get(type(layer), ()) or parametrize.is_parametrized(layer):
        return None, f"before it is {type(layer).__name__}, which it cannot be folded into"
    if norm.running_mean is None:
        return None, "it keeps no running statistics"
    if len(source.users) > 1 or not all(_is_used_once(model, graph, prefix, one) for one in (source, node)):
        return None, "it, or the layer before it, is used more than once"
    return f"{prefix}{source.target}", ""


def _is_used_once(model: nn.Module, graph: fx.Graph, prefix: str, node: fx.Node) -> bool:
    """No second call, no second name, and weights that nothing else reads."""
    module = model.get_submodule(f"{prefix}{node.target}")
    calls = [other for other in graph.nodes if other.op == "call_module" and other.target == node.target]
    reads = [other for other in graph.nodes if other.op == "get_attr" and str(other.target).startswith(f"{node.target}.")]
    names = [found for _, found in model.named_modules(remove_duplicate=False) if found is module]
    own = set(map(id, module.parameters()))
    shared = [weight for _, weight in model.named_parameters(remove_duplicate=False) if id(weight) in own]
    return len(calls) == 1 and not reads and len(names) == 1 and len(shared) == len(own)


@torch.no_grad()
def _fuse(model: nn.Module, name: str, norm_name: str) -> None:
    """In float64, rounded once."""
    layer: Any = model.get_submodule(name)
    norm: Any = model.get_submodule(norm_name)
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
    own = None if layer.bias is None else layer.bias.double()
    fuse = fuse_linear_bn_weights if isinstance(layer, nn.Linear) else fuse_conv_bn_weights
    weight, bias = fuse(layer.weight.double(), own, mean, variance, norm.eps, gamma, beta)
    layer.weight = _like(layer.weight, weight)
    layer.bias = _like(layer.weight, bias)
    model.set_submodule(norm_name, _folded(layer, norm))


def _like(weight: nn.Parameter, values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.to(weight.dtype), requires_grad=weight.requires_grad)


def _folded(layer: nn.Module, norm: nn.Module) -> Folded:
    """Of rows with time, BatchNorm1d normalizes another axis than the one a linear layer makes."""
    is_of_rows = isinstance(layer, nn.Linear) and not isinstance(norm, LabelledBatchNorm)
    return Folded(rank=2 if is_of_rows else None)
