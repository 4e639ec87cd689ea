"""The micro-batches of a step, forward twice with the same result: what the second pass needs to know, the first sums up."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from accelerate import Accelerator
from torch import Tensor, nn

from mmtrain.engine.loading import StepInput
from mmtrain.engine.processes import share_buffers
from mmtrain.engine.state import load_random_state, random_state


@dataclass(frozen=True)
class Forwarded:
    """One micro-batch's forward pass."""

    joint: Tensor  # [B, J]; of two views [2B, J], one after the other
    losses: Mapping[str, Tensor]  # task -> its part of the mean over the labelled samples of the global batch, in the graph
    aux: Mapping[str, Tensor]  # its part of each batch term, in the graph
    columns: dict[str, Tensor]  # what is kept of its samples


Forward = Callable[[int], Forwarded]  # of the micro-batch with this number


class Passes:
    """`first()`, then `second()`. Where there is one micro-batch, its graph serves both.

    Else the second pass computes anew, with the random state and the buffers (running statistics) put back, so that it
    sees the same dropout and moves the statistics once.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, inputs: StepInput, forward: Forward) -> None:
        self._model, self._forward = model, forward
        self._count = len(inputs.micro_batches)
        self._kept: Forwarded | None = None
        share_buffers(accelerator, model)  # as DDP does before a pass that it reduces

    def first(self) -> Iterator[Forwarded]:
        """Every micro-batch, in order."""
        if self._count == 1:
            self._kept = self._forward(0)
            yield self._kept
            return
        self._random = random_state()
        self._buffers = [buffer.clone() for buffer in self._model.buffers()]
        for number in range(self._count):
            yield self._forward(number)

    def second(self) -> Iterator[Forwarded]:
        """The same again."""
        if self._kept is not None:
            yield self._kept
            return
        load_random_state(self._random)
        for buffer, before in zip(self._model.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        for number in range(self._count):
            yield self._forward(number)


def add_up(so_far: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Batch terms of one more micro-batch, detached, on top of those before."""
    return {name: so_far.get(name, 0) + value.detach() for name, value in terms.items()}
