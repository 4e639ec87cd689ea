"""One optimizer step: micro-batches, one division by the labels of the global batch, one update."""

import math

import torch
from torch import Tensor

from mmtrain.engine.anomaly import detecting_anomaly
from mmtrain.engine.backward import backward
from mmtrain.engine.companions import GlobalCompanions
from mmtrain.engine.gradient_norms import gradient_norms, gradients_of
from mmtrain.engine.loading import StepInput
from mmtrain.engine.nonfinite import copy_buffers, leave_out
from mmtrain.engine.passes import Forwarded
from mmtrain.engine.processes import sum_over_processes
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import StepValues
from mmtrain.evaluation.evaluate import sample_values
from mmtrain.objectives.regularizers.r_drop import two_views


def train_step(run: Run, inputs: StepInput) -> tuple[StepValues, bool]:
    """Forward and backward over this process's micro-batches, then one update; False if there was none.

    The gradient is that of the whole global batch (see `backward`): the same for any number of processes and micro-batches.
    Batch terms (`Outputs.aux`) alone depend on these numbers: each micro-batch's counts by its share of the global batch.
    Pretext tasks that compare samples do so within a micro-batch, over all processes: they depend on `batch.micro`.
    Where the plan weighs samples by v_i, a task's mean is sum_i v_i l_i / n, still over all n labelled samples: what weighs
    little moves the model little. Reported losses are never weighed.
    There is no update where the gradient is not finite, be it that the loss scaler tries a smaller scale or that the run
    leaves such steps out; nor where the step is barred.
    Errors: NonFiniteError, before any weight is touched, where the run stops for it.
    """
    run.optimizer.zero_grad(set_to_none=True)
    if run.unfreezing is not None:
        run.unfreezing.begin(inputs.step)
    buffers = copy_buffers(run, inputs)
    with detecting_anomaly(run, inputs), run.span("backward"):
        done = backward(run, inputs, lambda number: _marked_forward(run, inputs, number))
    if run.unfreezing is not None:
        run.unfreezing.drop_gradients(inputs.step)
    run.accelerator.unscale_gradients()
    norms = gradient_norms(run.optimizer.param_groups)
    lr = {str(group["name"]): float(group["lr"]) for group in run.optimizer.param_groups}
    penalties = {name: value.detach() for name, value in done.penalties.items()}
    values = StepValues(
        inputs.step,
        done.objective,
        penalties,
        norms,
        lr,
        done.samples,
        aux=done.aux,
        weights=done.weights,
        conflicts=done.conflicts,
        order=inputs.order,
    )
    is_finite = math.isfinite(norms.total)  # asked before clipping, which would make a finite number of Inf
    if inputs.is_barred or (not is_finite and _is_final(run, done.objective)):
        return leave_out(run, inputs, values, buffers), False
    if not is_finite:
        run.accelerator.scaler.update()  # to a smaller scale
        return values, False
    _update(run, inputs.step, norm=norms.total)
    return values, True


def _update(run: Run, step: int, *, norm: float) -> None:
    """Move the weights by a gradient of this norm, and all that moves with them."""
    if gradients := gradients_of(run.optimizer.param_groups):
        run.clipping.clip(gradients, norm=norm)
    run.optimizer.step()
    run.lr_schedule.step()
    if run.curriculum.by_gradients is not None:
        run.curriculum.by_gradients.learn()
    if run.average is not None:
        run.average.take(run.accelerator.unwrap_model(run.model), finished=step + 1)


def _is_final(run: Run, objective: Tensor) -> bool:
    """False while a smaller scale of the loss may yet keep the gradient finite; the same on every process.

    `objective`: this process's part of it. Where it is not finite itself, no scale mends it.
    """
    if run.accelerator.scaler is None or run.accelerator.scaler.get_scale() < 1.0:
        return True
    return not bool(torch.isfinite(sum_over_processes(run.accelerator, objective)))


def _marked_forward(run: Run, inputs: StepInput, number: int) -> Forwarded:
    with run.span("forward"):
        return _forward(run, inputs, number)


def _forward(run: Run, inputs: StepInput, number: int) -> Forwarded:
    """A micro-batch: each task's part of its mean over the labelled samples of the global batch."""
    batch, counts, weight = inputs.micro_batches[number].to(run.accelerator.device), inputs.counts, inputs.weight(number)
    active = run.curriculum.active_tasks(inputs.step)
    if run.objective.num_views == 1:
        outputs = run.model(batch.inputs, batch.labelled, batch.keys)
        companions = GlobalCompanions(run.accelerator, inputs.slices[number]) if inputs.slices else None
        terms = run.objective(outputs, batch, active=active, companions=companions)
        training = terms.training
    else:
        twice = two_views(batch)
        outputs = run.model(twice.inputs, twice.labelled, twice.keys)
        terms = run.objective(outputs, twice, active=active)
        second = run.objective.consistency(outputs.logits, twice)
        halves = {task: value.reshape(2, len(batch)).mean(0) for task, value in terms.training.items()}
        training = {task: value + second[task] if task in active else value for task, value in halves.items()}
    if weight is not None:
        weight = weight.to(run.accelerator.device)  # one copy, for all tasks
        training = {task: value * weight for task, value in training.items()}
    losses = {task: values.sum() / max(counts[task], 1) for task, values in training.items()}
    aux = {name: value * (len(batch) / run.settings.batch_size) for name, value in outputs.aux.items()}
    return Forwarded(outputs.joint, losses, aux, sample_values(batch, outputs.logits, terms))
