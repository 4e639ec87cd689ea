"""What a finished run came to: its metrics at the evaluation that validation chose, and what it cost."""

import json
from dataclasses import dataclass

import numpy as np

from mmtrain.ablation.plan import PlannedRun
from mmtrain.crossval import fold_metrics
from mmtrain.engine.jsonl import read_jsonl

_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """NaN where a run has no record of it."""

    seconds: float  # of training, without evaluations
    samples_per_second: float  # the median window's
    parameters: float
    trained: float  # of the parameters
    peak_memory: float  # MiB


def metrics_of(run: PlannedRun, split: str = "val") -> dict[str, float]:
    """By name `split/task/metric`: of validation at the best evaluation, of another split as `mmtrain evaluate` found it."""
    if split == "val":
        return fold_metrics(run.experiment, "best")
    file = run.folder.path / "evaluation" / f"{split}.json"
    metrics = json.loads(file.read_text(encoding="utf-8"))["metrics"]
    return {name: _NAN if value is None else value for name, value in metrics.items()}


def cost_of(run: PlannedRun) -> Cost:
    """From timing.jsonl and environment.json; steps that a killed run had to repeat count once."""
    records = list(read_jsonl(run.folder.timing)) if run.folder.timing.is_file() else []
    windows = list({record["step"]: record for record in records if record["kind"] == "window"}.values())
    rates = [float(window["samples_per_second"]) for window in windows]
    memory = [float(record["peak_memory_mib"]) for record in records if record["kind"] == "epoch"]
    starts = json.loads(run.folder.environment.read_text(encoding="utf-8"))
    counts = starts[-1].get("parameters") or {} if starts else {}
    return Cost(
        seconds=sum(float(window["seconds"]) for window in windows) if windows else _NAN,
        samples_per_second=float(np.median(rates)) if rates else _NAN,
        parameters=float(counts.get("total", _NAN)),
        trained=float(counts.get("trained", _NAN)),
        peak_memory=max(memory, default=_NAN),
    )
