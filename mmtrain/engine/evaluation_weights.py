"""The weights that are evaluated and saved, where an optimizer trains on others than those it arrives at."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmtrain.engine.checkpoint import Tensors
from mmtrain.engine.weight_parts import part_of
from mmtrain.errors import CheckpointError


@contextmanager
def evaluation_weights(optimizer: torch.optim.Optimizer) -> Iterator[dict[str, Tensor]]:
    """Inside, the parameters hold the optimizer's average (schedule-free); behind, bit for bit what they held before.

    Gives the weights that training goes on from, named <group>/<number in it>; empty where they are the same.
    """
    own: Any = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper has an `eval` for every optimizer
    if not hasattr(own, "eval"):
        yield {}
        return
    trained = {name: value.detach().clone() for name, value in _parameters(own).items()}
    own.eval()
    try:
        yield trained
    finally:
        _train_on(own, trained)


def load_trained_weights(optimizer: torch.optim.Optimizer, trained: Tensors) -> None:
    """Go on from the weights that `evaluation_weights` gave; model and optimizer hold what was saved inside it.

    Errors: CheckpointError where they are of another optimizer.
    """
    own: Any = getattr(optimizer, "optimizer", optimizer)
    expected = set(_parameters(own)) if hasattr(own, "eval") else set()
    if set(trained) != expected:
        raise CheckpointError(f"the checkpoint has {len(trained)} weights to train on, this optimizer has {len(expected)}")
    if expected:
        _train_on(own, trained)


@torch.no_grad()
def _train_on(optimizer: Any, trained: Tensors) -> None:
    """`train` gives these weights but for rounding, which would depend on how often a run is evaluated and saved."""
    optimizer.train()
    for name, parameter in _parameters(optimizer).items():
        parameter.copy_(part_of(trained[name], parameter))


def _parameters(optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    return {
        f"{group['name']}/{number}": parameter
        for group in optimizer.param_groups
        for number, parameter in enumerate(group["params"])
    }
