"""What validation chose for a checkpoint, on disk: calibration.json."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmtrain.errors import DataError
from mmtrain.evaluation.calibration import TaskCalibration


@dataclass(frozen=True, kw_only=True)
class CalibrationFile:
    """Of one checkpoint by its folder's name, and of its `trained` or `average` weights."""

    path: Path
    checkpoint: str
    weights: str

    def read(self) -> dict[str, TaskCalibration] | None:
        """By task; None where there is no file, or it is of another checkpoint. Errors: DataError where it is damaged."""
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
            if (values["checkpoint"], values["weights"]) != (self.checkpoint, self.weights):
                return None
            return {
                task: TaskCalibration(temperature=entry["temperature"], thresholds=entry["thresholds"])
                for task, entry in values["tasks"].items()
            }
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"{self.path} is damaged; delete it, and `mmtrain evaluate RUN --split val` writes it anew"
            ) from None

    def content(self, tasks: Mapping[str, TaskCalibration], rules: Mapping[str, str]) -> dict[str, Any]:
        """What stands in the file; `rules`: by task, the threshold that its decisions go by."""
        entries = {
            task: asdict(found) | ({"rule": rules.get(task, "half")} if found.thresholds else {})
            for task, found in tasks.items()
        }
        return {"split": "val", "checkpoint": self.checkpoint, "weights": self.weights, "tasks": entries}
