"""An average of the weights that training passes through, kept beside them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mmtrain.engine.checkpoint import Tensors
from mmtrain.engine.model_state import load_model_state
from mmtrain.sharded import local

Many = tuple[Tensor, ...] | list[Tensor]
Update = Callable[[Many, Many, Tensor | int], None]  # of averages in place, by weights; how many are in them so far


class WeightAverage:
    """The average of `model`'s weights behind the steps `start`, `start` + `every`, ... (from the first step on).

    Buffers of floats (running statistics of batch normalization) are averaged as weights are, others copied. The first
    weights are copied; `update` draws the average towards those that follow.
    """

    def __init__(self, model: nn.Module, *, update: Update, start: int, every: int = 1) -> None:
        self.start, self.every = start, every
        self._averaged = AveragedModel(model, multi_avg_fn=_floats_only(update), use_buffers=True)

    @property
    def module(self) -> nn.Module:
        """A copy of the model that holds the average; it is not called."""
        module = self._averaged.module
        assert isinstance(module, nn.Module)
        return module

    @property
    def count(self) -> int:
        """How many weights are in the average; 0 before `start`."""
        return int(self._averaged.n_averaged)

    def take(self, model: nn.Module, *, finished: int) -> None:
        """Take in the weights behind `finished` steps, if they are of those averaged."""
        if finished >= self.start and (finished - self.start) % self.every == 0:
            self._averaged.update_parameters(model)

    @contextmanager
    def inside(self, model: nn.Module) -> Iterator[None]:
        """Inside, `model` holds the average; behind, bit for bit what it held before."""
        held = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.module.state_dict())
        try:
            yield
        finally:
            model.load_state_dict(held)

    def tensors(self) -> Tensors:
        """The average by name in the model; empty before `start`."""
        return self.module.state_dict() if self.count else {}

    def load(self, tensors: Tensors, *, count: int, origin: str) -> None:
        """Continue where `tensors` and `count` were taken. Errors: CheckpointError where they are of another model."""
        if count:
            load_model_state(self.module, tensors, origin=origin)
        self._averaged.n_averaged.fill_(count)


def _floats_only(update: Update) -> Update:
    @torch.no_grad()
    def update_floats(averages: Many, weights: Many, count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            update([local(average) for average in averages], [local(value) for value in weights], count)
            return
        for average, value in zip(averages, weights, strict=True):
            average.copy_(value)

    return update_floats
