"""By how much each stream's loss fell since it was last drawn: the reward of several samplers."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from mmtrain.curriculum.reports import WindowReport


class Progress:
    """Keeps the last loss of every stream and task, and compares.

    The fall of a stream is the mean over its tasks of (L_before - L_now) / max(|L_before|, 1e-8): a part of the loss, so
    that tasks of different scale can be compared. It is 1 where a loss vanished, below 0 where one rose.
    """

    def __init__(self) -> None:
        self._losses: dict[str, dict[str, float]] = {}

    def falls(self, report: WindowReport) -> dict[str, float]:
        """Stream -> fall, of the streams drawn in this window and once before; remembers the losses of the window."""
        falls = {}
        for stream, tasks in report.losses.items():
            before = self._losses.setdefault(stream, {})
            parts = [(before[task] - loss) / max(abs(before[task]), 1e-8) for task, loss in tasks.items() if task in before]
            before |= tasks
            if parts:
                falls[stream] = fmean(parts)
        return falls

    def state_dict(self) -> dict[str, Any]:
        """The last losses by stream and task."""
        return {stream: dict(tasks) for stream, tasks in self._losses.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Continue where `state_dict` was taken."""
        self._losses = {stream: dict(tasks) for stream, tasks in state.items()}


def rewards(falls: Mapping[str, float]) -> dict[str, float]:
    """Falls as rewards in [0, 1]: a loss that rose earns 0."""
    return {stream: min(max(fall, 0.0), 1.0) for stream, fall in falls.items()}
