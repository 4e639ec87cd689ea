"""What the weightings of gradients share: where gradients are compared, and torchjd's aggregators as weightings."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmtrain.curriculum.permutation import derive_key
from mmtrain.curriculum.samplers.protocol import Stateless
from mmtrain.section import Section

Over = Literal["representation", "parameters"]


class GradientSection(Section):
    """The field of every weighting of gradients."""

    over: Over = Field(
        default="representation",
        description="Gradients with respect to the joint vectors (one pass through the trunk in all), or to all shared "
        "parameters (a backward pass and a copy of the shared gradient for each task).",
    )


@dataclass(frozen=True)
class Combined:
    """One update out of K gradients.

    `gradient` [P]: of what the tasks share. `weights`: what each task's gradient counts in it, None where that is no
    number a task. `heads`: what the gradients of the tasks' own heads are multiplied with; None: 1.
    """

    gradient: Tensor
    weights: Mapping[str, Tensor] | None
    heads: Mapping[str, Tensor] | None = None


class Aggregation(Stateless):
    """An aggregator of torchjd as a weighting. A task alone keeps its gradient as it is.

    `over`: see GradientSection. `seed`: of an aggregator that draws; its draws are then a function of (seed, step), and the
    global random state stays as it is.
    """

    def __init__(self, *, aggregator: nn.Module, over: Over, seed: int = 0) -> None:
        self.over = over
        self._aggregator, self._seed = aggregator, seed
        # torchjd shows the weights of those aggregators that have any by the module that computes them
        self._weighting: nn.Module | None = getattr(aggregator, "weighting", None) if _is_weighted(aggregator) else None

    def weights(self, step: int, active: Sequence[str]) -> None:
        """Unknown before the gradients are."""

    def learn(self) -> None:
        """Nothing to learn."""

    @torch.no_grad()
    def combine(self, gradients: Tensor, losses: Mapping[str, Tensor], *, step: int) -> Combined:
        """`gradients` [K, P] -> the aggregator's vector [P] and, where it has some, its weights."""
        if len(gradients) == 1:
            return Combined(gradients[0], {task: gradients.new_ones(()) for task in losses})
        size = gradients.norm()
        units = gradients / size.clamp(min=torch.finfo(size.dtype).tiny)  # torchjd takes a small matrix for no matrix
        with _random_state_of(derive_key(self._seed, "aggregation", step), gradients.device):
            if self._weighting is None:
                return Combined(self._aggregator(units) * size, None)
            weights: Tensor = self._weighting(units)  # [K]
        return Combined(weights @ gradients, dict(zip(losses, weights, strict=True)))


def _is_weighted(aggregator: nn.Module) -> bool:
    from torchjd.aggregation import WeightedAggregator  # imports cvxpy where it is installed: not at start-up

    return isinstance(aggregator, WeightedAggregator)


@contextmanager
def _random_state_of(key: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(key)
        yield
