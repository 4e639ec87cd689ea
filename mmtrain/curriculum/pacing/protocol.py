"""What every pacing is: it hears when a stream's difficulties are known, and chooses the samples of the next pass."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from mmtrain.curriculum.decision import Weights
from mmtrain.curriculum.pacing.difficulty import DifficultyConfig
from mmtrain.curriculum.pacing.ranking import Floats, Ranking
from mmtrain.curriculum.pool import Mask
from mmtrain.curriculum.streams import Integers


class Choice(NamedTuple):
    """The samples of a pass, a mask [N] with at least one, None = all; and the first pass after that has others.

    `until` None: in this window every further pass has the same.
    """

    mask: Mask | None
    until: int | None = None


class Pacing(Protocol):
    """Decides the pools. Choosing never advances it; only `begin` does. Its state is JSON-able and small.

    `number` counts a stream's passes from 0, the first that begins after all its difficulties are known. A choice is a pure
    function of its arguments and the state, so that every pass of a window may have a pool of its own.
    """

    def begin(self, stream: str, values: Floats) -> None:
        """The difficulties [N] of all samples of a stream are known from now on."""

    def choose(self, ranking: Ranking, *, stream: str, number: int, step: int) -> Choice:
        """The samples of pass `number`, which begins in the window of `step`, its first."""

    def weights(self, values: Floats, *, stream: str, numbers: Integers) -> Weights | None:
        """What the losses of samples of these difficulties [n], drawn in these passes [n], are multiplied with; None = 1."""

    def words(self, *, stream: str, number: int, step: int) -> str:
        """Why the pool of such a pass is what it is, for curriculum.jsonl."""

    def state_dict(self) -> dict[str, Any]:
        """All that its next choices depend on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""


class Stateless:
    """The part of a pacing that weighs nothing and remembers nothing."""

    def begin(self, stream: str, values: Floats) -> None:
        """Nothing to learn."""

    def weights(self, values: Floats, *, stream: str, numbers: Integers) -> Weights | None:  # noqa: ARG002
        """Every sample counts alike."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


@runtime_checkable
class Graded(Protocol):
    """A config that says by which difficulty it goes."""

    difficulty: DifficultyConfig
