"""What every penalty on weights offers, and which weights it may touch."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from torch import Tensor

NamedParameters = Iterable[tuple[str, Tensor]]  # parameters, or the part of each that a process holds


class Penalty(Protocol):
    """One differentiable number per model, its strength included; its state belongs in a checkpoint."""

    def __call__(self, named_parameters: NamedParameters) -> Tensor:
        """A float32 scalar."""

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by parameter name; empty where the penalty remembers nothing."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` gave. Errors: CheckpointError where it belongs to another model."""


def matrices(named_parameters: NamedParameters) -> Iterator[tuple[str, Tensor]]:
    """The trainable parameters with two or more axes: weights of linear, convolution and embedding layers.

    Biases and the gains of norms have one axis and are left alone, and so is everything frozen. Embedding tables count as
    matrices here, though the optimizer's weight decay leaves them out.
    """
    return ((name, value) for name, value in named_parameters if value.requires_grad and value.ndim >= 2)
