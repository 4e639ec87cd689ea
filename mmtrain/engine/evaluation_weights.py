"""The weights that are evaluated and saved, where an optimizer trains on others than those it arrives at."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mmtrain.engine.checkpoint import Tensors
from mmtrain.errors import CheckpointError


@contextmanager
def evaluation_weights(
    model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> Iterator[dict[str, Tensor]]:
    """Inside, `model` holds the optimizer's average (schedule-free); behind, bit for bit what it held before.

    Gives the weights that training goes on from, by parameter name; empty where they are the same.
    """
    own: Any = getattr(optimizer, "optimizer", optimizer)
    if not hasattr(own, "eval"):
        yield {}
        return
    parameters = dict(accelerator.unwrap_model(model).named_parameters())
    trained = {name: value.detach().clone() for name, value in parameters.items() if value.requires_grad}
    own.eval()
    try:
        yield trained
    finally:
        own.train()  # gives them back but for rounding, which would depend on how often a run is evaluated and saved
        _copy(parameters, trained)


def load_trained_weights(model: nn.Module, optimizer: torch.optim.Optimizer, trained: Tensors) -> None:
    """Go on from the weights that `evaluation_weights` gave; model and optimizer hold what was saved inside it.

    `model`: not wrapped. Errors: CheckpointError where they are of another optimizer.
    """
    own: Any = getattr(optimizer, "optimizer", optimizer)
    parameters = dict(model.named_parameters())
    expected = {name for name, value in parameters.items() if value.requires_grad} if hasattr(own, "eval") else set()
    if set(trained) != expected:
        raise CheckpointError(f"the checkpoint has {len(trained)} weights to train on, this optimizer has {len(expected)}")
    if expected:
        own.train()
        _copy(parameters, trained)


@torch.no_grad()
def _copy(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)
