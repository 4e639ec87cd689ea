"""One optimizer step: micro-batches, one division by the labels of the global batch, one update."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from mmtrain.data.batch import Batch
from mmtrain.engine.loading import StepInput
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import StepValues
from mmtrain.errors import NonFiniteError
from mmtrain.evaluation.evaluate import sample_values
from mmtrain.objectives.regularizers.r_drop import two_views


def train_step(run: Run, inputs: StepInput) -> tuple[StepValues, bool]:
    """Forward and backward over this process's micro-batches, then one update; False if the loss scaler skipped it.

    The minimized value is sum over tasks of weight x mean over the global batch's labelled samples, plus penalties: the
    same for any number of processes and micro-batches. Where the plan weighs samples by v_i, that mean is sum_i v_i l_i / n,
    still over all n labelled samples: what weighs little moves the model little. Reported losses are never weighed.
    Errors: NonFiniteError before any weight is touched.
    """
    run.optimizer.zero_grad(set_to_none=True)
    objective = torch.zeros((), device=run.accelerator.device)
    penalties: Mapping[str, Tensor] = {}
    samples = []
    for number, micro in enumerate(inputs.micro_batches, start=1):
        is_last = number == len(inputs.micro_batches)
        batch = micro.to(run.accelerator.device)
        sync: AbstractContextManager[None] = nullcontext() if is_last else run.accelerator.no_sync(run.model)
        with sync:
            loss, columns = _forward(run, batch, inputs.step, inputs.counts, inputs.weight(number - 1))
            objective = objective + loss.detach()
            total = loss * run.accelerator.num_processes  # DDP divides the summed gradients by the processes
            if is_last:
                penalties = run.objective.penalties(run.accelerator.unwrap_model(run.model).named_parameters())
                total = total + sum(penalties.values())
            run.accelerator.backward(total)
        samples.append(columns)
    norm = float(run.accelerator.clip_grad_norm_(run.model.parameters(), run.settings.clip_norm or math.inf))
    if not math.isfinite(norm) and _is_final(run):
        raise NonFiniteError(_describe(run, inputs, objective))
    lr = {str(group["name"]): float(group["lr"]) for group in run.optimizer.param_groups}
    run.optimizer.step()
    skipped = bool(getattr(run.optimizer, "step_was_skipped", False))
    if not skipped:
        run.lr_schedule.step()
    detached = {name: value.detach() for name, value in penalties.items()}
    values = StepValues(inputs.step, objective, detached, norm, lr, samples)
    return values, not skipped


def _is_final(run: Run) -> bool:
    """False while a smaller scale of the loss may yet keep the gradient finite; the same on every process."""
    return run.accelerator.scaler is None or run.accelerator.scaler.get_scale() < 1.0


def _forward(
    run: Run, batch: Batch, step: int, counts: Mapping[str, int], weight: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """This micro-batch's part of the minimized sum, and what is kept of its samples; `weight` [B] of their losses."""
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
    if weight is not None:
        training = {task: value * weight.to(value.device) for task, value in training.items()}
    weights = run.curriculum.weights(step)
    parts = [training[task].sum() * (weights[task] / max(counts[task], 1)) for task in training]
    return torch.stack(parts).sum(), sample_values(batch, logits, reported)


def _describe(run: Run, inputs: StepInput, objective: Tensor) -> str:
    ids = [name for batch in inputs.micro_batches for name in batch.ids]
    bad = [name for name, parameter in run.model.named_parameters()
           if parameter.grad is not None and not torch.isfinite(parameter.grad).all()]  # fmt: skip
    where = f"loss {float(objective):.4g}; first in {bad[0] if bad else 'no single parameter: the norm overflows'}"
    return (
        f"step {inputs.step + 1}: the gradient holds NaN or Inf ({where}). "
        f"No weight was changed. Samples of the batch on this process: {', '.join(ids)}"
    )
