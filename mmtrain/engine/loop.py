"""The meta-loop: train a stretch, evaluate, tell the curriculum, keep the best, save."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.data.dataset import Stream
from mmtrain.engine.current import current_losses
from mmtrain.engine.evaluation_weights import evaluation_weights
from mmtrain.engine.history import History, history
from mmtrain.engine.interrupt import Interrupt
from mmtrain.engine.nonfinite import count_outcome
from mmtrain.engine.padding import PaddingMeter
from mmtrain.engine.processes import share_buffers
from mmtrain.engine.progress import ProgressBar, shares_note
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import sample_means, stream_losses
from mmtrain.engine.saving import record_steps, save
from mmtrain.engine.state import RunState
from mmtrain.engine.step import train_step
from mmtrain.engine.tracking import log_all
from mmtrain.engine.truncation import truncation_note
from mmtrain.errors import ConfigError, Interrupted
from mmtrain.evaluation.evaluate import evaluate, task_predictions
from mmtrain.evaluation.prediction_file import write_predictions
from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.evaluation.split_metrics import gap_rows, split_metrics
from mmtrain.evaluation.table import gap_table


def fit(run: Run, state: RunState, *, prunes: Callable[[RunState], bool] | None = None) -> History:
    """Train from `state` to the end of the run, or to early stopping; `prunes` is asked for it behind every evaluation.

    Errors: Interrupted after Ctrl-C or SIGTERM, with the state saved; NonFiniteError before a weight is touched.
    """
    with Interrupt(run.accelerator) as interrupt:
        while not state.finished(run.settings.total_steps):
            until = run.settings.next_evaluation(state.evaluated)
            if train_epoch(run, state, until=until, interrupted=interrupt.requested) and state.step > state.evaluated:
                validate(run, state)
                state.stopped |= prunes is not None and prunes(state)
            if interrupt.requested() and not state.finished(run.settings.total_steps):
                saved = "the run is saved" if state.saved == state.step else f"its last checkpoint is of step {state.saved}"
                raise Interrupted(f"stopped at step {state.step}; {saved}. Continue with the same command and --resume")
            if state.step == 0:
                raise ConfigError("curriculum.exhausted: stop: the streams cannot fill a single batch of this size")
    run.accelerator.wait_for_everyone()
    return history(run.folder.path)


def train_epoch(run: Run, state: RunState, *, until: int, interrupted: Callable[[], bool]) -> bool:
    """Train up to step `until` (an evaluation: an epoch's end, or a window border inside it), or to the streams' end.

    False if interrupted before that; what was trained is saved then.
    """
    run.model.train()
    name = f"epoch {run.settings.epoch_of(state.step + 1)}"
    with ProgressBar(run.console, name, total=until, done=state.step) as progress:
        while state.step < until and not state.stopped:
            start, stop = run.settings.window_of(state.step)
            window = run.curriculum.next_window(start, stop - start)
            meter, shares = PaddingMeter(), shares_note(run.curriculum.stream_names, window.shares)
            began, first = time.monotonic(), state.step
            for inputs in run.loader.steps(window, first=state.step):
                values, updated = train_step(run, inputs)
                state.log.add(values)
                state.conflicts.add(values.conflicts)
                state.step += 1
                count_outcome(run, state, values, updated=updated)
                meter.add(inputs.micro_batches)
                progress.update(state.step, note=f"objective {float(values.objective):.3f}  {shares}".rstrip())
                if state.step == window.stop_step:
                    close_window(run, state, start, values.weights)
                    state.stopped = window.ended
                    _log_timing(run, state, seconds=time.monotonic() - began, steps=state.step - first, meter=meter)
                asked_to_stop = interrupted()
                reached = state.step == until or state.stopped
                if not reached and (asked_to_stop or run.settings.checkpoint_due(state.step)):
                    save(run, state)
                if asked_to_stop:
                    return reached
            state.stopped = window.ended  # also where it had no step at all
    return True


def close_window(run: Run, state: RunState, start: int, weights: Mapping[str, Tensor | float] | None) -> None:
    """Reduce the window's losses over processes, let the curriculum see them, and write what it decided.

    `weights`: what each task counted in the window's last step.
    """
    record_steps(run, state)
    arrays = state.log.since(start)
    losses, counts = stream_losses(arrays, [stream.name for stream in run.train_streams])
    used = None if weights is None else {task: float(weights.get(task, 0.0)) for task in run.heads}
    own = sample_means(arrays) if run.curriculum.listens else None
    report = WindowReport(state.step, losses, counts, weights=used, conflicts=state.conflicts.take(), sample_losses=own)
    run.curriculum.finish_window(report)
    if probes := run.curriculum.probes():
        run.curriculum.observe_losses(current_losses(run, probes))
    points = run.curve.add(arrays)
    if run.logs is not None:
        run.logs.curriculum.write(run.curriculum.record())
        for point in points:
            run.logs.metrics.write(point | {"step": state.step})


def validate(run: Run, state: RunState) -> None:
    """Evaluate, put training and validation side by side, select, and save."""
    step = state.step
    train = task_predictions(state.log.arrays, run.train_streams, run.objective.losses)
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
        log_all(run.trackers, {"step": step} | metrics)
        if is_best:
            write_predictions(run.folder.predictions("val"), val)
    if run.console is not None:
        run.console.print(gap_table(gap_rows(metrics, val), title=f"Epoch {record['epoch']}, step {step}").rich())
    if is_first and (note := truncation_note(run.loader.collate.tokenizer, run.accelerator)):
        run.say(note)
    if run.settings.train_predictions and (run.settings.ends_epoch(step) or state.finished(run.settings.total_steps)):
        predict_training(run, step)  # before the checkpoint: a run killed in between comes by here again
    state.log.clear()
    save(run, state, is_best=is_best)


def predict(run: Run, streams: Sequence[Stream], *, name: str) -> list[TaskPredictions]:
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
        )


def predict_training(run: Run, step: int) -> None:
    """Write predictions of every labelled training sample after the epoch of `step`, which is finished or cut short."""
    with evaluation_weights(run.optimizer):
        predictions = predict(run, run.train_streams, name="training samples")
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


def _log_timing(run: Run, state: RunState, *, seconds: float, steps: int, meter: PaddingMeter) -> None:
    if run.logs is not None:
        rate = steps * run.settings.batch_size / seconds
        padding = {name: round(share, 4) for name, share in meter.shares().items()}
        run.logs.timing.write(
            {"step": state.step, "seconds": round(seconds, 4), "samples_per_second": round(rate, 2), "padding": padding}
        )
