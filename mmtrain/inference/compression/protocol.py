"""What a method of compression is: it changes a model, says what its file holds, and brings the model back from that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

Tensors = Mapping[str, Tensor]
Precision = Literal["fp32", "bf16", "fp16"]
Layers = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Applied:
    """What became of a model: the names that `restore` needs again, and in words what was done and what was left."""

    layers: Layers
    notes: tuple[str, ...]


class Method(Protocol):
    """One row of the table; it holds no state."""

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> Precision | None:
        """What products are computed in where nobody says; None: the run's own."""

    @property
    def is_integer(self) -> bool:
        """True where products are of integers: then no other precision can be asked for, and no graph is exported."""

    @property
    def is_exact(self) -> bool:
        """True where answers in float32 are those of the model, up to rounding."""

    def check(self) -> None:
        """Errors: ConfigError where this Python lacks what the method needs."""

    def apply(self, model: nn.Module) -> Applied:
        """Change the model in place, in float32. Errors: ConfigError where that cannot be done, or changes nothing."""

    def stored(self, model: nn.Module, layers: Layers) -> Tensors:
        """What the file holds of a model that this was applied to."""

    def restore(self, model: nn.Module, tensors: Tensors, layers: Layers, *, origin: str) -> None:
        """Make of a freshly built model the one whose tensors these are. Errors: CheckpointError where they do not fit."""
