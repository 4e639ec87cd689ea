"""What the losses and metrics of every sample cost in a validation, without reading samples and without the model.

Run `python -m benchmarks.bench_evaluation`. Wanted: at most 14 microseconds a sample. Three tasks (binary, three classes,
regression) over some 20,000 samples in batches of 64, on one thread. Four ways, over the same logits:

- mmtrain: every sample's loss and logits of every task kept and put in order, then each metric of the split;
- its part that keeps them, without the metrics;
- the mean loss of each batch alone, one number a task and batch;
- a plain loop, as research code has it: a loss function and `.item()` for each sample and task, predictions in lists, then
  scikit-learn's F1, AUROC and average precision, and numpy's correlation.

The losses of the plain loop and its metrics are compared with mmtrain's, but for the regression's loss, which is reported
in deviations of the training labels.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.nn import functional

from data_prep.synth import synthesize
from mmtrain.build import build_run
from mmtrain.config import load_experiment
from mmtrain.data.batch import Batch
from mmtrain.engine.run import Run
from mmtrain.evaluation.evaluate import Arrays, sample_values, task_predictions, to_arrays
from mmtrain.evaluation.split_metrics import split_metrics
from mmtrain.training import build_accelerator

SAMPLES, BATCH, ROUNDS = 25_000, 64, 5
TASKS = {"funny": "binary", "mood": "multiclass", "pitch": "regression"}


@dataclass(frozen=True)
class Forwarded:
    """What a forward pass gave of one batch."""

    batch: Batch
    logits: dict[str, Tensor]
    joint: Tensor
    pretext: dict[str, dict[str, Tensor]]


def forward(run: Run) -> list[Forwarded]:
    """Every validation sample once, as an evaluation would pass them."""
    (stream,), model, found = run.val_streams, run.accelerator.unwrap_model(run.model).eval(), []
    with torch.inference_mode():
        for places in np.array_split(np.arange(len(stream)), -(-len(stream) // BATCH)):
            batch = run.loader.collate(stream.samples(places), [0] * len(places))
            outputs = model(batch.inputs, batch.labelled)
            found.append(Forwarded(batch, dict(outputs.logits), outputs.joint, {}))
    return found


def keep(run: Run, passes: Sequence[Forwarded]) -> Arrays:
    """What an evaluation keeps of every sample, in order."""
    with torch.inference_mode():
        parts = [sample_values(seen.batch, seen.logits, run.objective(seen, seen.batch)) for seen in passes]
    arrays = to_arrays(parts)
    in_order = np.lexsort((arrays["index"], arrays["stream"]))
    return {key: column[in_order] for key, column in arrays.items()}


def score(run: Run, passes: Sequence[Forwarded]) -> dict[str, float]:
    """mmtrain: losses, then metrics."""
    return split_metrics("val", task_predictions(keep(run, passes), run.val_streams, run.objective))


def mean_losses(passes: Sequence[Forwarded]) -> dict[str, float]:
    """A number a task and batch."""
    sums = dict.fromkeys(TASKS, 0.0)
    with torch.inference_mode():
        for seen in passes:
            for task in TASKS:
                sums[task] += loss_of(task, seen.logits[task], seen.batch.targets[task]).item()
    return {task: value / len(passes) for task, value in sums.items()}


def loss_of(task: str, logits: Tensor, targets: Tensor) -> Tensor:
    table: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "binary": functional.binary_cross_entropy_with_logits,
        "multiclass": functional.cross_entropy,
        "regression": functional.mse_loss,
    }
    return table[TASKS[task]](logits, targets)


def plain_loop(passes: Sequence[Forwarded]) -> dict[str, float]:
    """Sample by sample and task by task."""
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    losses: dict[str, list[float]] = {task: [] for task in TASKS}
    guesses: dict[str, list[list[float]]] = {task: [] for task in TASKS}
    truths: dict[str, list[float]] = {task: [] for task in TASKS}
    for seen in passes:
        for task in TASKS:
            logits, targets = seen.logits[task], seen.batch.targets[task]
            for number in range(len(targets)):
                losses[task].append(loss_of(task, logits[number : number + 1], targets[number : number + 1]).item())
                truths[task].append(targets[number].item())
                guesses[task].append(logits[number].reshape(-1).tolist())
    funny, mood, pitch = (np.array(guesses[task]) for task in TASKS)
    values = {f"val/{task}/loss": float(np.mean(losses[task])) for task in ("funny", "mood")}
    values["val/funny/auroc"] = float(roc_auc_score(truths["funny"], funny[:, 0]))
    values["val/funny/average_precision"] = float(average_precision_score(truths["funny"], funny[:, 0]))
    values["val/funny/f1"] = float(f1_score(truths["funny"], funny[:, 0] > 0))
    values["val/mood/macro_f1"] = float(f1_score(truths["mood"], mood.argmax(axis=1), average="macro"))
    values["val/pitch/mae"] = float(np.abs(pitch[:, 0] - truths["pitch"]).mean())
    values["val/pitch/pearson"] = float(np.corrcoef(pitch[:, 0], truths["pitch"])[0, 1])
    return values


def build(folder: Path) -> Run:
    synthesize(
        folder / "store", samples=SAMPLES, modalities={"audio": 4}, tasks=TASKS, unlabelled=0.0, ratios=(0.1, 0.8, 0.1)
    )
    values = {
        "name": "evaluation",
        "runs": str(folder / "runs"),
        "datasets": {"clips": {"store": str(folder / "store")}},
        "streams": {"clips": {"dataset": "clips", "tasks": list(TASKS)}},
        "tasks": {"pitch": {"loss": {"name": "mse", "standardize": False}}},
        "model": {"dim": 8, "sequences": {"audio": {"name": "linear"}}, "fusion": {"name": "concat"}},
    }
    file = folder / "evaluation.yaml"
    file.write_text(yaml.safe_dump(values))
    experiment = load_experiment(file)
    return build_run(experiment, build_accelerator(experiment), None, on_disk=False)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, closing(build(Path(place))) as run:
        passes = forward(run)
        count = sum(len(seen.batch) for seen in passes)
        found, plain = score(run, passes), plain_loop(passes)
        for name, value in plain.items():
            assert abs(value - found[name]) < 1e-4, f"{name}: {value} and {found[name]}"
        ways: dict[str, Callable[[], object]] = {
            "losses and metrics of every sample": lambda: score(run, passes),
            "of these, losses and logits kept": lambda: keep(run, passes),
            "mean loss of each batch alone": lambda: mean_losses(passes),
            "plain loop over samples, scikit-learn": lambda: plain_loop(passes),
        }
        print(f"{count:,} samples, {len(TASKS)} tasks, {len(found)} metrics\n")
        print("| way | microseconds a sample |\n| --- | ---: |")
        for name, way in ways.items():
            times = []
            for _ in range(ROUNDS if "plain" not in name else 1):
                begun = time.process_time()
                way()
                times.append(time.process_time() - begun)
            print(f"| {name} | {1e6 * statistics.median(times) / count:.1f} |", flush=True)


if __name__ == "__main__":
    main()
