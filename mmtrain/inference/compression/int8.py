"""Linear layers with weights of 8 bits, whose products are of integers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmtrain.engine.model_state import load_model_state
from mmtrain.errors import CheckpointError, ConfigError
from mmtrain.extras import quiet_import, require
from mmtrain.inference.compression.protocol import Applied, Layers, Precision, Tensors

SCALE = "weight_scale"


@dataclass(frozen=True)
class Int8:
    """torchao's int8 dynamic quantization: symmetric, a scale for each output of a weight and for each row of activations.

    A row's scale is its own, so that padding and companions in a batch still change nothing. The file holds `weight` as int8
    and `weight_scale` [out, 1] in float32. Embeddings, convolutions and recurrent layers stay float32.
    """

    name: str = "int8"
    precision: Precision = "fp32"
    is_integer: bool = True
    is_exact: bool = False

    def check(self) -> None:
        require("--method int8", ("torchao",), extra="compress")

    def apply(self, model: nn.Module) -> Applied:
        names = [name for name, module in model.named_modules() if _is_plain(module, model)]
        if not names:
            raise ConfigError("int8: there is no linear layer in this model, so nothing to quantize")
        _quantize(model, names)
        note = f"{len(names)} linear layers are int8; embeddings, convolutions, recurrent layers and norms stay float32"
        return Applied(tuple((name,) for name in names), (note,))

    def stored(self, model: nn.Module, layers: Layers) -> Tensors:
        tensors: dict[str, Tensor] = dict(model.state_dict())
        for (name,) in layers:
            quantized: Any = tensors[f"{name}.weight"]
            tensors |= {f"{name}.weight": quantized.qdata, f"{name}.{SCALE}": quantized.scale}
        return tensors

    def restore(self, model: nn.Module, tensors: Tensors, layers: Layers, *, origin: str) -> None:
        self.check()
        plain, names = dict(tensors), [name for (name,) in layers]
        for name in names:
            weight, scale = plain.get(f"{name}.weight"), plain.pop(f"{name}.{SCALE}", None)
            if weight is None or scale is None or weight.dtype != torch.int8 or scale.shape != (len(weight), 1):
                raise CheckpointError(f"{origin}: {name} has no int8 weight with a scale for each of its outputs")
            plain[f"{name}.weight"] = weight.float() * scale
        load_model_state(model, plain, origin=origin)
        _quantize(model, names)
        for name in names:  # rounding a second time would find another scale
            quantized: Any = model.get_submodule(name).weight
            quantized.qdata.copy_(tensors[f"{name}.weight"])
            quantized.scale.copy_(tensors[f"{name}.{SCALE}"])


class QuantizedLinear(nn.Linear):
    """A linear layer of torchao's, which cannot find a scale for no rows."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if input.numel() == 0:
            return input.new_zeros(*input.shape[:-1], self.out_features)
        return super().forward(input)


def _is_plain(module: nn.Module, model: nn.Module) -> bool:
    """A linear layer as torch has it, whose weight is its own."""
    if type(module) is not nn.Linear or parametrize.is_parametrized(module):
        return False
    return sum(weight is module.weight for _, weight in model.named_parameters(remove_duplicate=False)) == 1


@torch.no_grad()
def _quantize(model: nn.Module, names: list[str]) -> None:
    with quiet_import():
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_  # slow to import
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        with torch.device("meta"):
            quantized = QuantizedLinear(linear.in_features, linear.out_features, bias=linear.bias is not None)
        quantized.weight, quantized.bias = nn.Parameter(linear.weight, requires_grad=False), linear.bias
        quantize_(quantized, Int8DynamicActivationInt8WeightConfig())
        model.set_submodule(name, quantized.train(linear.training))
