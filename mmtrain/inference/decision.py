"""Logits to probabilities and labels, by the temperature and the threshold that a run found on its validation split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.evaluation.calibration import ThresholdRule, probabilities_of
from mmtrain.evaluation.calibration_file import CalibrationFile
from mmtrain.signature import TaskOutput

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Decision:
    """How one task's logits become an answer."""

    temperature: float = 1.0
    threshold: float = 0.5  # of binary and multilabel tasks

    def probabilities(self, task: TaskOutput, logits: Floats) -> npt.NDArray[np.float64]:
        """[N] or [N, C] of the same shape; of a regression its values in the labels' units."""
        if task.kind == "regression":
            return np.asarray(np.asarray(logits, np.float64) * task.std + task.mean)
        return probabilities_of(task.kind, logits, temperature=self.temperature)

    def labels(self, task: TaskOutput, probabilities: Floats) -> npt.NDArray[Any]:
        """[N]: names of classes, 0 or 1 where a binary task has none, values of a regression; multilabel: bool [N, C]."""
        if task.kind == "regression":
            return np.asarray(probabilities)
        if task.kind == "multiclass":
            return np.asarray(np.asarray(task.classes, np.str_)[probabilities.argmax(axis=-1)])
        chosen = np.asarray(probabilities > self.threshold)
        if task.kind == "multilabel":
            return chosen
        numbers = chosen.astype(np.int64)
        return np.asarray(np.asarray(task.classes, np.str_)[numbers] if task.classes else numbers)


@dataclass(frozen=True)
class Decisions:
    """Those of all tasks, and what calibration.json says, where there is one."""

    by_task: Mapping[str, Decision] = field(default_factory=dict)
    record: Mapping[str, Any] | None = None

    def __getitem__(self, task: str) -> Decision:
        return self.by_task.get(task, Decision())


def decisions_of(file: CalibrationFile, rules: Mapping[str, ThresholdRule]) -> Decisions:
    """What validation chose for a checkpoint; no temperature and thresholds of a half where nothing was fitted for it.

    `rules`: by task, the threshold that its decisions go by. Errors: DataError where the file is damaged.
    """
    found = file.read()
    if found is None:
        return Decisions()
    by_task = {
        task: Decision(item.temperature or 1.0, item.thresholds.get(rules.get(task, "half"), 0.5))
        for task, item in found.items()
    }
    return Decisions(by_task, file.content(found, rules))
