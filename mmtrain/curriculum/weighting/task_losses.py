"""The last known loss of every task, whatever the shares of its streams."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from mmtrain.curriculum.reports import WindowReport


class TaskLosses:
    """A task's loss is the mean over its streams of their last window means; each stream counts once.

    So a change of shares between an easy and a hard stream is not mistaken for learning; a stream that was not drawn keeps
    its last value.
    """

    def __init__(self) -> None:
        self._last: dict[str, dict[str, float]] = {}

    def update(self, report: WindowReport) -> dict[str, float]:
        """Hear a window; returns task -> loss of the tasks known so far."""
        for stream, tasks in report.losses.items():
            for task, loss in tasks.items():
                self._last.setdefault(task, {})[stream] = loss
        return {task: fmean(streams.values()) for task, streams in self._last.items()}

    def state_dict(self) -> dict[str, Any]:
        return {task: dict(streams) for task, streams in self._last.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._last = {task: dict(streams) for task, streams in state.items()}
