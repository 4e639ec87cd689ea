"""A run's history as plain arrays, read back from its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.tracking import flatten
from mmtrain.errors import DataError

Columns = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class History:
    """Float64 columns of equal length, NaN where a record has no such number.

    `steps`: one row an optimizer step: `step`, `objective`, `loss/<task>`, `penalty/<name>`, `aux/<name>`
    (a fusion's batch terms), `grad_norm` and `grad_norms/<group>` (of the optimizer's groups, before clipping; 0 for one in
    which nothing learns at the time), `lr/<group>`. `evaluations`: one row an evaluation: `step`, `epoch`, and every metric
    under its `split/task/metric` name. `curve`: the mean loss of every N samples: `samples`, `loss/<task>`.
    """

    steps: Columns
    evaluations: Columns
    curve: Columns


def history(run: str | Path) -> History:
    """The history of a run folder, finished or not. Errors: DataError where there is none."""
    file = RunFolder(Path(run)).metrics
    if not file.is_file():
        raise DataError(f"{run} is not a run folder: it has no {file.name}")
    records: dict[str, list[dict[str, float]]] = {"step": [], "evaluation": [], "curve": [], "rollback": []}
    for record in read_jsonl(file):
        records[record["kind"]].append(_flat(record))
    return History(_columns(records["step"]), _columns(records["evaluation"]), _columns(records["curve"]))


def _flat(record: Mapping[str, Any]) -> dict[str, float]:
    metrics = record.get("metrics", {})
    rest = {key: value for key, value in record.items() if key not in ("kind", "metrics", "best", "selection")}
    return flatten(rest) | flatten(metrics)


def _columns(records: Sequence[Mapping[str, float]]) -> Columns:
    names = dict.fromkeys(name for record in records for name in record)
    return {name: np.array([record.get(name, np.nan) for record in records], dtype=np.float64) for name in names}
