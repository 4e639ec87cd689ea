"""Dropout as a CPU draws it fast: 16 random bits a number, and one byte kept of it for the backward pass."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

_LEVELS = 1 << 16  # of a random number of 16 bits


def dropout(values: Tensor, p: float, *, training: bool) -> Tensor:
    """Each number is zero with probability p, else divided by 1 - p (Srivastava et al. 2014, section 10).

    On a CPU torch draws a float32 for every number, and keeps it. Here p is rounded to a multiple of 2^-16, the same by
    which the others are divided, so that the mean is as it was. Random numbers are of torch's own generator. A compiler
    is left torch's own operation.
    """
    dropped = round(p * _LEVELS)
    if not training or values.device.type != "cpu" or dropped in (0, _LEVELS) or torch.compiler.is_compiling():
        return F.dropout(values, p, training)
    result: Tensor = _Dropout.apply(values, dropped)
    return result


class Dropout(nn.Dropout):
    """nn.Dropout by `dropout`; never in place."""

    def forward(self, values: Tensor) -> Tensor:
        return dropout(values, self.p, training=self.training)


def replace_dropouts(model: nn.Module) -> None:
    """Put a Dropout in the place of each of torch's own inside `model`."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, dropped: int) -> Tensor:
        kept = _random_words(values) >= dropped - _LEVELS // 2
        ctx.save_for_backward(kept)
        ctx.scale = _LEVELS / (_LEVELS - dropped)
        return (values * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradients[0] * kept).mul_(ctx.scale), None


def _random_words(values: Tensor) -> Tensor:
    """Of the shape of `values`, int16, each as likely; drawn four at a time."""
    count = values.numel()
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None)
    return drawn.view(torch.int16)[:count].view(values.shape)
