"""What the curriculum knows of a stream: its name, its size, and numbers that samplers may ask for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """One stream. Its number in plans is its place in the list of streams; positions run over 0 .. size - 1.

    `tasks`: what is learned from it; empty = every task of the stage. `chance`: task -> mean loss of a
    predictor that knows only the training labels' frequencies.
    `lengths`: positions [n] -> a measure of each sample's cost [n], e.g. `stream.lengths().__getitem__`; without it all
    samples count as equally long. `difficulty`: each sample's [size], where it is known before the training.
    """

    name: str
    size: int
    tasks: tuple[str, ...] = ()
    chance: Mapping[str, float] = field(default_factory=dict)
    lengths: Callable[[Integers], Integers] | None = None
    difficulty: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"stream '{self.name}' has {self.size} samples; a stream has at least 1")
        if self.difficulty is not None and self.difficulty.shape != (self.size,):
            raise ValueError(f"stream '{self.name}' has {self.size} samples, and difficulties {self.difficulty.shape}")


def steps_per_epoch(streams: Sequence[StreamSpec], batch_size: int) -> int:
    """Optimizer steps of an epoch: the sum of the streams' full sizes over the batch size, rounded up."""
    return -(-sum(stream.size for stream in streams) // batch_size)
