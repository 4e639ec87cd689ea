"""A decision: pure functions that stand for a whole window."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.turn import Chosen, Span

Names = tuple[str, ...]
# (step, active streams) -> their shares, at least 0, summing to 1. Pure: asked again, it answers the same.
ShareRule = Callable[[int, Names], Mapping[str, float]]
# (stream, number of its pass that begins) -> the pool of that pass, and how long it stands. Pure.
PoolRule = Callable[[str, int], Chosen]
Weights = npt.NDArray[np.float32]
# (stream, samples of it from one pool) -> what their losses are multiplied with [n], None = 1. Pure.
WeightRule = Callable[[str, Span], Weights | None]


def whole_streams(stream: str, number: int) -> Chosen:  # noqa: ARG001 - a PoolRule
    """Every pass walks through all of its stream."""
    return Chosen(None, None)


def equal_weights(stream: str, span: Span) -> None:
    """Every sample counts alike."""


@dataclass(frozen=True)
class Decision:
    """How batches are made in the window under way.

    `shares` is a sampler's rule over the streams that it is given, so that a stream which a schedule stops, or which is
    used up, leaves its share to the others by the sampler's own formula. `active` names the streams in play at a step.
    `pool` gives the pool of the passes that begin in the window; `weight` weighs the samples' losses.
    """

    shares: ShareRule
    active: Callable[[int], Names]
    pool: PoolRule = whole_streams
    weight: WeightRule = equal_weights
