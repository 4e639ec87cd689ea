"""One optimizer step: micro-batches, one division by the labels of the global batch, one update."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmtrain.curriculum.weighting.protocol import Learned
from mmtrain.data.batch import Batch
from mmtrain.engine.backward import backward
from mmtrain.engine.loading import StepInput
from mmtrain.engine.passes import Forwarded
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import StepValues
from mmtrain.errors import NonFiniteError
from mmtrain.evaluation.evaluate import sample_values
from mmtrain.objectives.regularizers.r_drop import two_views


def train_step(run: Run, inputs: StepInput) -> tuple[StepValues, bool]:
    """Forward and backward over this process's micro-batches, then one update; False if the loss scaler skipped it.

    The gradient is that of the whole global batch (see `backward`): the same for any number of processes and micro-batches.
    Errors: NonFiniteError before any weight is touched.
    """
    run.optimizer.zero_grad(set_to_none=True)
    done = backward(run, inputs, lambda batch: _forward(run, batch, inputs.counts))
    trained = [parameter for _, parameter in _trained(run)]
    norm = float(run.accelerator.clip_grad_norm_(trained, run.settings.clip_norm or math.inf))
    if not math.isfinite(norm) and _is_final(run):
        raise NonFiniteError(_describe(run, inputs, done.objective))
    lr = {str(group["name"]): float(group["lr"]) for group in run.optimizer.param_groups}
    run.optimizer.step()
    skipped = bool(getattr(run.optimizer, "step_was_skipped", False))
    if not skipped:
        run.lr_schedule.step()
    penalties = {name: value.detach() for name, value in done.penalties.items()}
    values = StepValues(inputs.step, done.objective, penalties, norm, lr, done.samples, done.weights, done.conflicts)
    return values, not skipped


def _is_final(run: Run) -> bool:
    """False while a smaller scale of the loss may yet keep the gradient finite; the same on every process."""
    return run.accelerator.scaler is None or run.accelerator.scaler.get_scale() < 1.0


def _trained(run: Run) -> list[tuple[str, nn.Parameter]]:
    """All that the optimizer holds, by name, and what is frozen."""
    weighting = run.curriculum.weighting
    learned = weighting.module.named_parameters(prefix="weighting") if isinstance(weighting, Learned) else ()
    return [*run.model.named_parameters(), *learned]


def _forward(run: Run, batch: Batch, counts: Mapping[str, int]) -> Forwarded:
    """One micro-batch: each task's part of its mean over the labelled samples of the global batch, which has `counts`."""
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
    losses = {task: values.sum() / max(counts[task], 1) for task, values in training.items()}
    return Forwarded(outputs.joint, losses, sample_values(batch, logits, reported))


def _describe(run: Run, inputs: StepInput, objective: Tensor) -> str:
    ids = [name for batch in inputs.micro_batches for name in batch.ids]
    bad = [name for name, parameter in _trained(run)
           if parameter.grad is not None and not torch.isfinite(parameter.grad).all()]  # fmt: skip
    where = f"loss {float(objective):.4g}; first in {bad[0] if bad else 'no single parameter: the norm overflows'}"
    return (
        f"step {inputs.step + 1}: the gradient holds NaN or Inf ({where}). "
        f"No weight was changed. Samples of the batch on this process: {', '.join(ids)}"
    )
