"""Weights kept in half precision, and products in it where the device has it."""

from dataclasses import dataclass

import torch
from torch import nn

from mmtrain.engine.model_state import load_model_state
from mmtrain.errors import ConfigError
from mmtrain.inference.compression.protocol import Applied, Layers, Precision, Tensors


@dataclass(frozen=True)
class Half:
    """Matrices are rounded to half precision, in which the file holds them; biases, norms and statistics stay float32.

    In memory they are float32 again, and autocast rounds the factors of a product, not its sum. Of float16, which has no
    products worth the name on a CPU, products are float32 there (`mmtrain.load`).
    """

    name: str
    precision: Precision
    dtype: torch.dtype
    is_integer: bool = False
    is_exact: bool = False

    def check(self) -> None:
        return

    @torch.no_grad()
    def apply(self, model: nn.Module) -> Applied:
        """Errors: ConfigError where a weight is too large for the type."""
        count, limit = 0, torch.finfo(self.dtype).max
        for name, weight in model.named_parameters():
            if not _is_matrix(weight):
                continue
            if weight.abs().max() > limit:
                raise ConfigError(
                    f"{self.name}: {name} holds {float(weight.abs().max()):.3g}, and {self.name} ends at {limit:g}; "
                    "write --method bf16"
                )
            weight.copy_(weight.to(self.dtype).to(weight.dtype))
            count += 1
        return Applied((), (f"{count} matrices are stored in {self.name}; biases, norms and statistics stay float32",))

    def stored(self, model: nn.Module, layers: Layers) -> Tensors:  # noqa: ARG002 - of every method
        halved = {name for name, weight in model.named_parameters(remove_duplicate=False) if _is_matrix(weight)}
        return {name: value.to(self.dtype) if name in halved else value for name, value in model.state_dict().items()}

    def restore(self, model: nn.Module, tensors: Tensors, layers: Layers, *, origin: str) -> None:  # noqa: ARG002
        load_model_state(model, dict(tensors), origin=origin)


def _is_matrix(weight: torch.Tensor) -> bool:
    return weight.is_floating_point() and weight.dim() > 1 and weight.numel() > 0


class BFloat16(Half):
    """Eight significant bits, and the range of float32."""

    def __init__(self) -> None:
        super().__init__(name="bf16", precision="bf16", dtype=torch.bfloat16)


class Float16(Half):
    """Eleven significant bits, up to 65504."""

    def __init__(self) -> None:
        super().__init__(name="fp16", precision="fp16", dtype=torch.float16)
