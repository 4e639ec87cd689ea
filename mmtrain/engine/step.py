"""One optimizer step: micro-batches, one division by the labels of the global batch, one update."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from mmtrain.data.batch import Batch
from mmtrain.engine.loading import StepInput
from mmtrain.engine.nonfinite import copy_buffers, leave_out
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import StepValues
from mmtrain.evaluation.evaluate import sample_values
from mmtrain.objectives.regularizers.r_drop import two_views


def train_step(run: Run, inputs: StepInput) -> tuple[StepValues, bool]:
    """Forward and backward over this process's micro-batches, then one update; False if there was none.

    The minimized value is sum over tasks of weight x mean over the global batch's labelled samples, plus penalties: the
    same for any number of processes and micro-batches. There is no update where the loss scaler skips it, or where the
    gradient is not finite and the run leaves such steps out. Errors: NonFiniteError, before any weight is touched, where
    the run does not.
    """
    run.optimizer.zero_grad(set_to_none=True)
    if run.unfreezing is not None:
        run.unfreezing.begin(inputs.step)
    buffers = copy_buffers(run)
    objective = torch.zeros((), device=run.accelerator.device)
    penalties: Mapping[str, Tensor] = {}
    samples = []
    for number, micro in enumerate(inputs.micro_batches, start=1):
        is_last = number == len(inputs.micro_batches)
        batch = micro.to(run.accelerator.device)
        sync: AbstractContextManager[None] = nullcontext() if is_last else run.accelerator.no_sync(run.model)
        with sync:
            loss, columns = _forward(run, batch, inputs.step, inputs.counts)
            objective = objective + loss.detach()
            total = loss * run.accelerator.num_processes  # DDP divides the summed gradients by the processes
            if is_last:
                penalties = run.objective.penalties(run.accelerator.unwrap_model(run.model).named_parameters())
                total = total + sum(penalties.values())
            run.accelerator.backward(total)
        samples.append(columns)
    if run.unfreezing is not None:
        run.unfreezing.drop_gradients(inputs.step)
    norm = float(run.accelerator.clip_grad_norm_(run.model.parameters(), run.settings.clip_norm or math.inf))
    lr = {str(group["name"]): float(group["lr"]) for group in run.optimizer.param_groups}
    detached = {name: value.detach() for name, value in penalties.items()}
    values = StepValues(inputs.step, objective, detached, norm, lr, samples)
    if not math.isfinite(norm) and _is_final(run):
        return leave_out(run, inputs, values, buffers), False
    run.optimizer.step()
    # a fused optimizer skips a step inside itself, and Accelerate does not see it
    skipped = bool(getattr(run.optimizer, "step_was_skipped", False)) or not math.isfinite(norm)
    if not skipped:
        run.lr_schedule.step()
        if run.average is not None:
            run.average.take(run.accelerator.unwrap_model(run.model), finished=inputs.step + 1)
    return values, not skipped


def _is_final(run: Run) -> bool:
    """False while a smaller scale of the loss may yet keep the gradient finite; the same on every process."""
    return run.accelerator.scaler is None or run.accelerator.scaler.get_scale() < 1.0


def _forward(run: Run, batch: Batch, step: int, counts: Mapping[str, int]) -> tuple[Tensor, dict[str, Tensor]]:
    """This micro-batch's part of the minimized sum, and what is kept of its samples."""
    if run.objective.num_views == 1:
        outputs = run.model(batch.inputs, batch.labelled)
        logits = outputs.logits
        terms = run.objective(logits, batch)
        training = terms.training
        reported = terms.reported
    else:
        twice = two_views(batch)
        outputs = run.model(twice.inputs, twice.labelled)
        logits = {task: value[: len(batch)] for task, value in outputs.logits.items()}
        first, second = run.objective(outputs.logits, twice), run.objective.consistency(outputs.logits, twice)
        halves = {task: value.reshape(2, len(batch)).mean(0) for task, value in first.training.items()}
        training = {task: value + second[task] for task, value in halves.items()}
        reported = {task: value[: len(batch)] for task, value in first.reported.items()}
    weights = run.curriculum.weights(step)
    parts = [training[task].sum() * (weights[task] / max(counts[task], 1)) for task in training]
    return torch.stack(parts).sum(), sample_values(batch, logits, reported)
