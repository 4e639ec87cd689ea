"""The sums of a window under way; they travel in a checkpoint, and are divided once, at the window's end."""

from collections.abc import Mapping
from typing import Any

from mmtrain.curriculum.reports import WindowReport


class WindowTally:
    """Sums of losses and counts of labelled samples by stream and task, from the start of a window.

    The loop adds what it trained on (sums over all processes, or one process's own if it reduces before `report`). A
    checkpoint inside a window holds `state_dict()`, so that the resumed window reports what the uninterrupted one would.
    """

    def __init__(self) -> None:
        self._losses: dict[str, dict[str, tuple[float, int]]] = {}
        self._counts: dict[str, int] = {}

    def add_losses(self, stream: str, task: str, total: float, labelled: int) -> None:
        """Add the summed loss of `labelled` samples."""
        if labelled:
            tasks = self._losses.setdefault(stream, {})
            old_total, old_labelled = tasks.get(task, (0.0, 0))
            tasks[task] = (old_total + total, old_labelled + labelled)

    def add_drawn(self, counts: Mapping[str, int]) -> None:
        """Add the samples that a step drew, by stream."""
        for stream, count in counts.items():
            self._counts[stream] = self._counts.get(stream, 0) + count

    def report(self, step: int) -> WindowReport:
        """The means so far; `step` is the number of finished optimizer steps."""
        losses = {
            stream: {task: total / labelled for task, (total, labelled) in tasks.items()}
            for stream, tasks in self._losses.items()
        }
        return WindowReport(step=step, losses=losses, counts=dict(self._counts))

    def clear(self) -> None:
        """Begin the next window."""
        self._losses, self._counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; floats survive JSON bit by bit."""
        losses = {stream: {task: list(pair) for task, pair in tasks.items()} for stream, tasks in self._losses.items()}
        return {"losses": losses, "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._counts = dict(state["counts"])
        self._losses = {
            stream: {task: (float(total), int(labelled)) for task, (total, labelled) in tasks.items()}
            for stream, tasks in state["losses"].items()
        }
