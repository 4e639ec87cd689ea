"""A decision: two pure functions of the step that stand for a whole window."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Names = tuple[str, ...]
# (step, active streams) -> their shares, at least 0, summing to 1. Pure: asked again, it answers the same.
ShareRule = Callable[[int, Names], Mapping[str, float]]


@dataclass(frozen=True)
class Decision:
    """How batches are made in the window under way.

    `shares` is a sampler's rule over the streams that it is given, so that a stream which a schedule stops, or which is
    used up, leaves its share to the others by the sampler's own formula. `active` names the streams in play at a step.
    """

    shares: ShareRule
    active: Callable[[int], Names]
