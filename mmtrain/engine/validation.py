"""What the loop does at an evaluation: score, tell who watches, keep the best, save."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mmtrain.curriculum.reports import EvalReport
from mmtrain.data.dataset import Stream
from mmtrain.engine.evaluation_weights import evaluation_weights
from mmtrain.engine.processes import share_buffers
from mmtrain.engine.progress import ProgressBar
from mmtrain.engine.run import Run
from mmtrain.engine.saving import save
from mmtrain.engine.state import RunState
from mmtrain.engine.tracking import log_all
from mmtrain.engine.truncation import truncation_note
from mmtrain.evaluation.evaluate import evaluate, task_predictions
from mmtrain.evaluation.prediction_file import write_predictions
from mmtrain.evaluation.predictions import Predictions
from mmtrain.evaluation.split_metrics import gap_rows, split_metrics
from mmtrain.evaluation.table import gap_table


def validate(run: Run, state: RunState) -> None:
    """Evaluate, put training and validation side by side, select, and save."""
    step = state.step
    train = task_predictions(state.log.arrays, run.train_streams, run.objective)
    share_buffers(run.accelerator, run.model)
    with evaluation_weights(run.optimizer):
        val = predict(run, run.val_streams, name="validation")
    metrics = split_metrics("train", train) | split_metrics("val", val) | average_metrics(run)
    report = EvalReport(step, metrics)
    run.curriculum.observe_evaluation(report)
    run.lr_schedule.observe(report)
    selecting = metrics[run.settings.metric]
    if not math.isfinite(selecting):
        run.say(f"{run.settings.metric} is {selecting} here: this evaluation cannot be the best")
    is_best = state.selection.update(selecting, step=step, mode=run.settings.mode)
    is_first, state.evaluated = state.evaluated == 0, step
    patience = run.settings.patience
    state.stopped |= patience is not None and state.selection.evaluations_without_gain >= patience
    record: dict[str, Any] = {"kind": "evaluation", "step": step, "epoch": run.settings.epoch_of(step)}
    record |= {"metrics": metrics, "best": is_best, "selection": asdict(state.selection)}
    if run.logs is not None:
        run.logs.metrics.write(record)
        if is_best:
            write_predictions(run.folder.predictions("val"), val)
        best = state.selection.best
        log_all(run.trackers, {"step": step} | metrics | ({} if best is None else {f"best/{run.settings.metric}": best}))
    if run.console is not None:
        run.console.print(gap_table(gap_rows(metrics, val), title=f"Epoch {record['epoch']}, step {step}").rich())
    if is_first and (note := truncation_note(run.loader.collate.tokenizer, run.accelerator)):
        run.say(note)
    if run.settings.train_predictions and (run.settings.ends_epoch(step) or state.finished(run.settings.total_steps)):
        predict_training(run, step)  # before the checkpoint: a run killed in between comes by here again
    state.log.clear()
    with run.span("checkpoint", covers=step - state.saved):
        save(run, state, is_best=is_best)


def end_at_evaluation(run: Run, state: RunState) -> None:
    """The streams turn out to be used up at an evaluation that was made already: what belongs to a run's end."""
    if run.settings.train_predictions and not run.settings.ends_epoch(state.step):
        predict_training(run, state.step)
    save(run, state)


def predict(run: Run, streams: Sequence[Stream], *, name: str, retrieves: bool = True) -> list[Predictions]:
    """Whole streams with the weights that the model holds now, in eval mode; `name` stands beside the progress."""
    with ProgressBar(run.console, name, total=1) as progress:
        return evaluate(
            run.accelerator.unwrap_model(run.model),
            streams,
            objective=run.objective,
            collate=run.loader.collate,
            accelerator=run.accelerator,
            batch_size=run.settings.eval_batch,
            progress=progress.count,
            retrieves=retrieves,
        )


def predict_training(run: Run, step: int) -> None:
    """Write predictions of every labelled training sample after the epoch of `step`, which is finished or cut short."""
    with evaluation_weights(run.optimizer):
        predictions = predict(run, run.train_streams, name="training samples", retrieves=False)
    if run.logs is not None:
        write_predictions(run.folder.train_predictions(run.settings.epoch_of(step)), predictions)


def average_metrics(run: Run) -> dict[str, float]:
    """The validation metrics of the average of the weights, as `val_average/...`; empty where there is none yet."""
    if run.average is None or not run.average.count:
        return {}
    share_buffers(run.accelerator, run.average.module)
    with run.average.inside(run.accelerator.unwrap_model(run.model)):
        metrics = split_metrics("val_average", predict(run, run.val_streams, name="validation of the average"))
    run.say(f"average of the weights: val_average/loss {metrics['val_average/loss']:.4f}")
    return metrics
