"""A run folder with everything that a report draws, written without training."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from mmtrain.evaluation.calibration import TaskCalibration, calibrated
from mmtrain.evaluation.prediction_file import write_predictions
from mmtrain.evaluation.predictions import Predictions, PretextPredictions, TaskPredictions

HOSTILE = '</script><script>document.title = "run"</script> "quoted" \'single\' \u202e\u05e9\u05dc\u05d5\u05dd &amp;'
CONFIG = {
    "name": "drawn",
    "seed": 1,
    "datasets": {"clips": {"store": "stores/clips"}},
    "streams": {"clips": {"dataset": "clips", "tasks": ["funny", "mood", "tags", "pitch"]}},
    "model": {
        "text": {"name": "transformers"},
        "sequences": {"audio": {"name": "linear"}},
        "fusion": {"name": "concat"},
        "pooling": {"name": "mean"},
    },
    "curriculum": {"window": 2, "sampler": {"name": "uniform"}, "schedule": {"name": "all"}},
    "batch": {"size": 4},
    "training": {
        "epochs": 2,
        "steps_per_epoch": 10,
        "clipping": {"name": "norm", "max_norm": 1.0},
        "optimizer": {"name": "adamw", "lr": 0.1},
        "schedule": {"name": "linear"},
    },
    "selection": {"metric": "val/loss", "mode": "min"},
    "curve": {"every": 8},
}
KINDS = {"funny": "binary", "mood": "multiclass", "tags": "multilabel", "pitch": "regression"}
PRIMARY = {"funny": "average_precision", "mood": "accuracy", "tags": "macro_average_precision", "pitch": "pearson"}
QUANTILES = (5, 25, 50, 75, 95)


def predictions(task: str, kind: str, *, num: int = 12, name: str = "clip") -> TaskPredictions:
    """Random ones, the same every time."""
    rng = np.random.default_rng(len(task))
    classes = ("a", "b", HOSTILE) if kind in ("multiclass", "multilabel") else ()
    shape = (num, 3) if classes else (num,)
    logits = rng.normal(size=shape).astype(np.float32)
    labels = {
        "binary": np.arange(num) % 2,
        "multiclass": np.arange(num) % 3,
        "multilabel": (np.arange(num * 3) % 2).reshape(num, 3),
        "regression": rng.normal(size=num),
    }[kind]
    return TaskPredictions(
        task=task,
        kind=kind,  # type: ignore[arg-type]
        classes=classes,
        ids=np.array([f"{name}-{number:03d}" for number in range(num)]),
        streams=np.array(["clips"] * num),
        groups=np.array([f"film-{number % 4}" for number in range(num)]),
        labels=np.asarray(labels, np.float64),
        logits=logits,
        probabilities=1 / (1 + np.exp(-logits)) if kind != "multiclass" else _softmax(logits),
        losses=rng.gamma(1.0, size=num).astype(np.float32),
    )


def _softmax(logits: Any) -> Any:
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def all_predictions() -> list[Predictions]:
    blank = np.array(["clip-000", "clip-001"])
    pretext = PretextPredictions(
        task="pair", ids=blank, streams=np.array(["clips"] * 2), groups=blank, losses=np.array([1.0, np.nan])
    )
    return [*(predictions(task, kind) for task, kind in KINDS.items()), pretext]


def write_run(folder: Path, *, num_steps: int = 20, analyzed: bool = True) -> Path:
    """Write it; `analyzed`: also what evaluations and analyses leave."""
    (folder / "evaluation" / "attention").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    start = {"command": ["mmtrain", "train"], "seed": 1, "processes": 1, "device": "cpu", "precision": "fp32"}
    start |= {"git": {"commit": "0123456789abcdef", "diff": "+ <b>"}, "versions": {"mmtrain": "0.1.0", "torch": "2"}}
    (folder / "environment.json").write_text(json.dumps([start]))
    lines(folder / "metrics.jsonl", [record for step in range(1, num_steps + 1) for record in _metrics(step)])
    lines(folder / "curriculum.jsonl", [_window(step) for step in range(2, num_steps + 1, 2)])
    lines(folder / "timing.jsonl", [record for step in range(2, num_steps + 1, 2) for record in _timing(step)])
    fitted = TaskCalibration(temperature=2.0, thresholds={"best_f1": 0.8})
    decided = [
        calibrated(item, fitted, "best_f1")
        if isinstance(item, TaskPredictions) and item.task == "funny" and analyzed
        else item
        for item in all_predictions()
    ]
    write_predictions(folder / "predictions" / "val.parquet", decided)
    if analyzed:
        _analyses(folder)
    return folder


def lines(file: Path, records: Sequence[Any]) -> None:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


def _metrics(step: int) -> list[dict[str, Any]]:
    losses = dict.fromkeys(KINDS, 1 / step)
    record = {"kind": "step", "step": step, "objective": 4 / step, "loss": losses, "penalty": {"l2": 0.1}, "aux": {}}
    record |= {"grad_norm": 2.0 if step % 4 else 0.5, "grad_norms": {"model": 1.0, "text": 0.5}}
    record |= {"lr": {"model": 0.1, "text": 0.01}}
    found: list[dict[str, Any]] = [record]
    if step % 2 == 0:
        found.append({"kind": "curve", "samples": step * 4, "loss": losses, "step": step})
    if step % 5 == 0:
        metrics: dict[str, float | None] = {"val/loss": 1 / step}
        for split in ("train", "val"):
            for task in KINDS:
                metrics |= {f"{split}/{task}/loss": 1 / step, f"{split}/{task}/{PRIMARY[task]}": 1 - 1 / step}
                metrics |= {f"{split}/{task}/loss_q{percent:02d}": percent / 50 / step for percent in QUANTILES}
        selection = {"best": 1 / step, "evaluations_without_gain": 0}
        found.append(
            {"kind": "evaluation", "step": step, "epoch": 1, "metrics": metrics, "best": True, "selection": selection}
        )
    return found


def _window(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "steps": 2,
        "shares": {"clips": 1.0},
        "counts": {"clips": 8},
        "passes": {"clips": step / 10},
        "pools": {"clips": 6 if step < 8 else 12},
        "losses": {"clips": dict.fromkeys(KINDS, 1 / step)},
        "active": {task: 2 if task != "mood" else 1 for task in KINDS},
        "weights": dict.fromkeys(KINDS, 1.0),
        "conflicts": 0.25,
        "events": [f"clips: pool 6 -> 12 of 12 {HOSTILE}"] if step == 8 else [],
    }


def _timing(step: int) -> list[dict[str, Any]]:
    rates = {"seconds": 0.5, "samples_per_second": 16.0, "tokens_per_second": 99.0, "rows_per_second": {"audio": 50.0}}
    record = {"kind": "window", "step": step, **rates, "padding": {"text": 0.25, "audio": 0.1}}
    return [record, record | {"kind": "epoch", "epoch": 1, "peak_memory_mib": 123.0}] if step == 10 else [record]


def _analyses(folder: Path) -> None:
    evaluation = folder / "evaluation"
    states = {"ece": 0.1, "brier": 0.2, "bins": [_bin(low / 10) for low in range(10)]}
    row = {"task": "funny", "stream": "clips", "metric": "auroc", "value": 0.75, "low": 0.5, "high": 0.9, "baseline": 0.5}
    row |= {"num_samples": 12, "num_groups": 4}
    scored = {
        "split": "val",
        "step": 20,
        "rows": [row],
        "calibration": {"funny": {"before": states, "after": states | {"ece": 0.05}}},
    }
    fitted = {"funny": {"temperature": 2.0, "thresholds": {"half": 0.5, "best_f1": 0.8}, "rule": "best_f1"}}
    readings = [
        {
            "perturbation": kind,
            "modality": modality,
            "level": level,
            "task": "funny",
            "metric": "auroc",
            "value": 0.7 - level / 4,
        }
        for kind in ("drop", "noise")
        for modality in ("text", "audio")
        for level in (0, 0.5, 1)
    ]
    subset = {
        "perturbation": "subset",
        "modality": "audio+text",
        "level": None,
        "task": "funny",
        "metric": "auroc",
        "value": 0.7,
    }
    area = {
        "perturbation": "drop",
        "modality": "text",
        "task": "funny",
        "metric": "auroc",
        "area": 0.6,
        "relative_area": 0.9,
    }
    drop = {"modality": "text", "task": "funny", "metric": "auroc", "value": 0.7, "permuted": 0.5, "drop": 0.2}
    drop |= {"low": -0.1, "high": 0.3, "repeats": 5}
    part = {"stream": "clips", "group": None, "num_samples": 12, "loss": 0.5, "loss_std": 0.25, "value": None}
    groups = [part | {"group": name} for name in ("film-1", HOSTILE)]
    attention = {"id": HOSTILE, "split": "val", "labels": {"text": ["hello", HOSTILE], "audio": ["row 1 (0.0 s)"]}}
    attention["maps"] = [{"name": "layer 1", "query": "text", "key": "audio", "weights": [[0.75], [0.25]]}]
    files = {
        "evaluation/val.json": scored,
        "calibration.json": {"split": "val", "checkpoint": "step-00000020", "tasks": fitted},
        "evaluation/val-robustness.json": {"split": "val", "rows": [*readings, subset], "areas": [area]},
        "evaluation/val-importance.json": {"split": "val", "rows": [drop]},
        "evaluation/val-groups.json": {"tasks": {"funny": {"metric": "auroc", "streams": [part], "groups": groups}}},
        "evaluation/attention/a.json": attention,
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values))
    lines(folder / "test_reads.jsonl", [{"time": "2030-01-01", "command": HOSTILE, "user": "me"}])
    columns = {"id": ["a", HOSTILE], "stream": ["clips"] * 2, "task": ["funny"] * 2, "confidence": [0.9, 0.2]}
    columns |= {"variability": [0.1, 0.3], "correctness": [1.0, 0.5], "forgetting_events": [0, 2], "epochs": [4, 4]}
    pq.write_table(pa.table(columns), evaluation / "data_map.parquet")


def _bin(low: float) -> dict[str, float]:
    return {"low": low, "high": low + 0.1, "mean_probability": low + 0.05, "share_positive": low, "count": 3}
