"""The mean loss of every N training samples: a finer curve than one point an epoch, the same for any batching of the log."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmtrain.engine.sample_log import tasks_of
from mmtrain.evaluation.evaluate import Arrays


@dataclass
class Curve:
    """Sums that wait for their N-th sample."""

    every: int
    seen: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, arrays: Arrays) -> list[dict[str, Any]]:
        """Points completed by these samples (in training order)."""
        points = []
        total = len(arrays["index"])
        start = 0
        while start < total:
            stop = min(total, start + self.every - self.seen % self.every)
            self._collect(arrays, slice(start, stop))
            self.seen += stop - start
            start = stop
            if self.seen % self.every == 0:
                means = {task: self.sums[task] / count for task, count in self.counts.items() if count}
                points.append({"kind": "curve", "samples": self.seen, "loss": means})
                self.sums, self.counts = {}, {}
        return points

    def _collect(self, arrays: Arrays, rows: slice) -> None:
        for task in tasks_of(arrays):
            losses = arrays[f"{task}/loss"][rows][arrays[f"{task}/labelled"][rows]]
            self.sums[task] = self.sums.get(task, 0.0) + float(losses.sum(dtype=np.float64))
            self.counts[task] = self.counts.get(task, 0) + len(losses)

    def state_dict(self) -> dict[str, Any]:
        return {"every": self.every, "seen": self.seen, "sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen, self.sums, self.counts = state["seen"], dict(state["sums"]), dict(state["counts"])
