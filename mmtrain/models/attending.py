"""What a fusion's attention goes from and to: what a fusion tells of itself to those who look at it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mmtrain.models.block import MultiHeadAttention


@dataclass(frozen=True)
class Attends:
    """One call of an attention in a forward pass: the parts that its queries and keys are made of, side by side.

    A part is the rows of a modality, by its name, or rows of the fusion's own (`Attentive.own_rows`).
    """

    attention: MultiHeadAttention
    layer: str  # in words, such as "layer 1"
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    call: int = 0  # which of the calls of this attention in one forward pass


@runtime_checkable
class Attentive(Protocol):
    """A fusion with attention between rows."""

    def attends(self) -> Iterator[Attends]:
        """All calls, each once."""

    def own_rows(self) -> dict[str, tuple[str, ...]]:
        """A name for every row of the parts that are no modality; none where their number is the sample's."""
